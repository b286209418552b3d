"""python -m graflow_sidecar: the command graflow-sidecar."""

from ._program import main

if __name__ == "__main__":
    main()
