package rpc

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/workerlog"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// maxPrintsBeforeAnswer is how many lines that are no messages a worker may
// print before it answers initialize: a banner is fine, `yes` is not a worker.
const maxPrintsBeforeAnswer = 1000

// print takes a line on stdout that is no message but a print. What in it was
// meant as a message is a suspect.
func (c *child) print(line []byte) {
	found := c.suspects.finder.Line(line)
	c.look(found, nil, quietAfter)
	c.printed(line)
}

// printed logs and counts a print.
func (c *child) printed(line []byte) {
	blank := len(bytes.TrimSpace(line)) == 0
	text := workerlog.Text(strings.ToValidUTF8(string(local.LastState(line)), "\uFFFD"))
	c.mu.Lock()
	c.prints++
	if c.firstLine == "" {
		c.firstLine = text
	}
	flood := c.prints > maxPrintsBeforeAnswer && c.limit == 0
	c.mu.Unlock()
	if flood {
		c.breakWith("printed " + strconv.Itoa(maxPrintsBeforeAnswer) + " lines and no answer to initialize")
		return
	}
	if blank {
		return
	}
	c.misbehaved("print")
	c.log.Info("worker stdout", append([]any{"line", text}, c.only()...)...)
}
