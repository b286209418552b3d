package spool

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// A line of a file is a JSON object whose last member is the checksum of the text before it.
// Each outcome also has the number of outcomes behind it, and the header has that of all:
// without them a file that lost its tail exactly at a line end looked complete. Versions
// that do not know these members skip them.

// checksumMember is the text in front of a checksum. It is never within a JSON string, whose
// quotes are escaped.
const checksumMember = `,"crc":`

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encodeLine returns the line of a JSON object.
func encodeLine(object any) ([]byte, error) {
	text, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	text = text[:len(text)-1] // the brace
	sum := crc32.Checksum(text, castagnoli)
	text = append(text, checksumMember...)
	return append(strconv.AppendUint(text, uint64(sum), 10), '}', '\n'), nil
}

// writeLine writes the line of a JSON object.
func writeLine(w io.Writer, object any) error {
	line, err := encodeLine(object)
	if err == nil {
		_, err = w.Write(line)
	}
	return err
}

// checkLine returns an error if the checksum of a line is wrong, and whether it has one.
func checkLine(text []byte) (has bool, err error) {
	text = bytes.TrimSuffix(text, []byte("\n"))
	at := bytes.LastIndex(text, []byte(checksumMember))
	if at < 0 {
		return false, nil
	}
	number, ok := bytes.CutSuffix(text[at+len(checksumMember):], []byte("}"))
	if !ok {
		return false, nil // of a version without checksums, with such a text
	}
	want, err := strconv.ParseUint(string(number), 10, 32)
	if err != nil {
		return false, nil //nolint:nilerr // as above
	}
	if got := crc32.Checksum(text[:at], castagnoli); got != uint32(want) {
		return true, fmt.Errorf("the checksum is %d and not %d", got, want)
	}
	return true, nil
}

// headerLine is the first line.
type headerLine struct {
	Header
	// Outcomes is the number of lines behind it.
	Outcomes int `json:"outcomes"`
}

// outcomeLine is each other line.
type outcomeLine struct {
	task.Outcome
	// Left is the number of lines behind it.
	Left int `json:"left"`
}
