package local

import (
	"os"
	"runtime"
	"testing"
)

func TestResidentIsWhatAProcessTakes(t *testing.T) {
	before, err := Resident(os.Getpid())
	if err != nil || before < 1<<20 {
		t.Fatalf("%d bytes, %v", before, err)
	}
	const more = 64 << 20
	memory := make([]byte, more)
	for i := 0; i < len(memory); i += 4096 {
		memory[i] = 1
	}
	after, err := Resident(os.Getpid())
	if err != nil || after-before < more*3/4 || after-before > more*16 { // the race detector uses memory too
		t.Errorf("%d bytes more after %d were written to, %v", after-before, more, err)
	}
	runtime.KeepAlive(memory)
	if n, err := Resident(1 << 30); err == nil {
		t.Errorf("%d bytes of no process", n)
	}
}
