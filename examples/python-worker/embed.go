// Package pyworker carries the Python worker package graflow_sidecar, so that
// one binary can run Graflow's tasks with nothing installed but Graflow.
package pyworker

import (
	"archive/zip"
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"time"
)

// Files holds graflow_sidecar/*.py. The pattern names files, not the folder:
// of a folder go:embed leaves out what begins with "_".
//
//go:embed graflow_sidecar/*.py
var Files embed.FS

// packageTime is in every entry of the archive: the same sources give the same
// bytes, whenever and wherever they are packed.
var packageTime = time.Date(1980, time.January, 1, 0, 0, 0, 0, time.UTC)

// Zip packs the package for Python's zipimport. The entries are stored, not
// compressed: a small Python may lack zlib.
func Zip() ([]byte, error) {
	var buf bytes.Buffer
	archive := zip.NewWriter(&buf)
	err := fs.WalkDir(Files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		source, err := Files.ReadFile(path)
		if err != nil {
			return err
		}
		header := &zip.FileHeader{Name: path, Method: zip.Store, Modified: packageTime}
		file, err := archive.CreateHeader(header)
		if err != nil {
			return err
		}
		_, err = file.Write(source)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("packing graflow_sidecar: %w", err)
	}
	if err := archive.Close(); err != nil {
		return nil, fmt.Errorf("packing graflow_sidecar: %w", err)
	}
	return buf.Bytes(), nil
}

// bootstrap imports graflow_sidecar from the archive that is the first argument.
//
// It loads the package from there by name instead of extending sys.path: a
// graflow_sidecar that happens to be installed cannot come first, the search
// path stays that of "python -m graflow.worker.main" (the working directory,
// then what Python has), and processes that multiprocessing spawns inherit no
// path that means nothing to them. A descriptor is made close-on-exec, so that
// programs which tasks start do not hold it. Python 3.9 has load_module alone, which is
// deprecated in later ones.
const bootstrap = `import os, sys
from importlib.util import module_from_spec
from zipimport import zipimporter
archive = sys.argv.pop(1)
if archive.startswith("/proc/self/fd/"):
    os.set_inheritable(int(archive.rpartition("/")[2]), False)
try:
    if sys.path[:1] == [""]:
        sys.path[0] = os.getcwd()
except OSError:
    pass
importer = zipimporter(archive)
if hasattr(importer, "find_spec"):
    spec = importer.find_spec("graflow_sidecar")
    package = module_from_spec(spec)
    sys.modules["graflow_sidecar"] = package
    spec.loader.exec_module(package)
else:
    importer.load_module("graflow_sidecar")
`

const runWorker = `from graflow_sidecar.graflow import main
main()
`

const runForkServer = `from graflow_sidecar.graflow import fork_server
fork_server(int(sys.argv.pop(1)))
`

// Command gives the command line of a process that runs Graflow's tasks: the
// Python interpreter, the bootstrap, and where the archive of Zip is, either a
// file or a descriptor handed down ("/proc/self/fd/3", of a memfd for one).
func Command(python, path string) []string {
	return []string{python, "-c", bootstrap + runWorker, path}
}

// ForkServerCommand is as Command, of a fork server for such processes. Its last
// argument, which is left to add, is the number of its socket's descriptor:
// graflow_sidecar/_forkserver.py says what is spoken there.
func ForkServerCommand(python, path string) []string {
	return []string{python, "-c", bootstrap + runForkServer, path}
}
