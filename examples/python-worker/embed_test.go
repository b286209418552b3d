package pyworker

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func python(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		t.Fatal("these tests need python3 on PATH: apt-get install python3")
	}
	return path
}

func TestFilesHoldsEverySource(t *testing.T) {
	onDisk, err := filepath.Glob("graflow_sidecar/*.py")
	if err != nil || len(onDisk) == 0 {
		t.Fatalf("no sources found: %v", err)
	}
	for _, path := range onDisk {
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Files.ReadFile(filepath.ToSlash(path))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not embedded as it is: %v", path, err)
		}
	}
}

func TestZipIsDeterministic(t *testing.T) {
	first, err := Zip()
	if err != nil {
		t.Fatal(err)
	}
	second, err := Zip()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("two archives of the same sources differ")
	}
}

// run starts the embedded package the way Command says, from a file and from a
// descriptor, and returns what comes on stdout and stderr.
func run(t *testing.T, dir, stdin string, env []string, fromDescriptor bool) (stdout, stderr string) {
	t.Helper()
	archive, err := Zip()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "graflow_sidecar.zip")
	if err := os.WriteFile(path, archive, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if fromDescriptor {
		path = "/proc/self/fd/3"
	}
	argv := Command(python(t), path)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.ExtraFiles = []*os.File{file}
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		t.Logf("worker ended: %v", err)
	}
	return out.String(), log.String()
}

const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":1}}` + "\n"

// write puts files into a new folder. A graflow that explains itself stands in
// for a missing one: whether Graflow is installed here must not matter.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestCommandRunsThePackage(t *testing.T) {
	missing := "raise ModuleNotFoundError(\"No module named 'graflow'\", name='graflow')\n"
	for _, test := range []struct {
		name           string
		fromDescriptor bool
	}{{"from a file", false}, {"from a descriptor", true}} {
		t.Run(test.name, func(t *testing.T) {
			// The module comes from the working directory, which therefore is
			// on the search path.
			dir := write(t, map[string]string{"graflow.py": missing})
			stdout, stderr := run(t, dir, initialize, nil, test.fromDescriptor)
			if !strings.Contains(stdout, `"id":1,"error":{"code":-32603,"message":"Graflow is not installed for `) ||
				!strings.Contains(stdout, "pip install graflow redis (or set SIDECAR_PYTHON)") {
				t.Errorf("stdout %q\nstderr %q", stdout, stderr)
			}
			if strings.Contains(stderr, "Traceback") {
				t.Errorf("a traceback for something expected: %s", stderr)
			}
		})
	}
}

// The importer of Python 3.9 stands in for that of the Python that runs the test. Later
// imports do not use it: they ask sys.path_hooks.
func TestCommandRunsThePackageOnPython39(t *testing.T) {
	dir := write(t, map[string]string{
		"site/sitecustomize.py": `import zipimport

class Importer:
    def __init__(self, path, real=zipimport.zipimporter):
        self._real = real(path)

    def load_module(self, name):
        return self._real.load_module(name)

zipimport.zipimporter = Importer
`,
		"graflow.py": "import zipimport\nraise ImportError('from ' + zipimport.zipimporter.__name__)\n",
	})
	stdout, stderr := run(t, dir, initialize, []string{"PYTHONPATH=" + filepath.Join(dir, "site")}, false)
	if !strings.Contains(stdout, "from Importer") {
		t.Errorf("stdout %q\nstderr %q", stdout, stderr)
	}
}

func TestCommandPrefersTheEmbeddedPackage(t *testing.T) {
	installed := "raise SystemExit('the installed package was imported')\n"
	dir := write(t, map[string]string{
		"site/graflow_sidecar/__init__.py": installed,
		"site/graflow_sidecar/graflow.py":  installed,
		"graflow.py":                       "raise ImportError('from the embedded one')\n",
	})
	env := []string{"PYTHONPATH=" + filepath.Join(dir, "site")}
	stdout, stderr := run(t, dir, initialize, env, false)
	if !strings.Contains(stdout, "from the embedded one") {
		t.Errorf("stdout %q\nstderr %q", stdout, stderr)
	}
}

func TestCommandKeepsThePathOfTheInterpreter(t *testing.T) {
	dir := write(t, map[string]string{
		"graflow.py": "import os, sys\nraise ImportError(repr((sys.path[0] == os.getcwd(), '/fd/' in repr(sys.path), os.get_inheritable(3))))\n",
	})
	stdout, stderr := run(t, dir, initialize, nil, true)
	if !strings.Contains(stdout, "(True, False, False)") {
		t.Errorf("stdout %q\nstderr %q", stdout, stderr)
	}
}

func TestZipIsImportable(t *testing.T) {
	archive, err := Zip()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "package.zip")
	if err := os.WriteFile(path, archive, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python(t), "-c", "import graflow_sidecar; print(graflow_sidecar.__version__)")
	cmd.Env = append(os.Environ(), "PYTHONPATH="+path)
	cmd.Dir = t.TempDir()
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) == "" {
		t.Fatalf("%v: %s", err, out)
	}
}
