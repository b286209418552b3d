package rpc

import (
	"fmt"
	"strings"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
)

// tooLong takes a line over the limit, which has been skipped.
func (c *child) tooLong(e *protocol.TooLongError) {
	c.suspects.skipping = false
	if protocol.LooksLikeMessage(e.Prefix) {
		c.misbehaved("too_long")
		c.faulty(e.Prefix, fmt.Sprintf("the worker's answer has %d bytes, more than the %d that are allowed (SIDECAR_MAX_MESSAGE_BYTES)",
			e.Length, c.cfg.MaxMessageBytes))
		return
	}
	c.lookSkipped(fmt.Sprintf("its line has %d bytes, more than the %d that are allowed (SIDECAR_MAX_MESSAGE_BYTES)", e.Length, c.cfg.MaxMessageBytes), quietAfter)
	c.suspects.finder.Line(nil)
	c.printed(e.Prefix)
}

// skipped looks at a part of a line over the limit: an answer may stand anywhere in it.
func (c *child) skipped(part []byte) {
	s := &c.suspects
	if !s.skipping {
		s.skipping = true
		part = part[min(c.stdout.taken, len(part)):]
		s.message = protocol.LooksLikeMessage(part[:min(len(part), protocol.IDWindow)])
	}
	if !s.message && len(s.found) < maxSuspects {
		s.found = append(s.found, s.finder.Part(part)...)
	}
}

// lookSkipped keeps what was found in such a line. also says what else is wrong.
func (c *child) lookSkipped(also string, after time.Duration) {
	found := c.suspects.found
	c.suspects.found = nil
	for i := range found {
		found[i].Flaw = strings.TrimPrefix(found[i].Flaw+", and "+also, ", and ")
	}
	c.look(found, nil, after)
}

// cutSkipped judges what was found in a line over the limit after which nothing comes.
func (c *child) cutSkipped(l *listener) {
	c.lookSkipped(fmt.Sprintf("its line has no end and more than the %d bytes that are allowed (SIDECAR_MAX_MESSAGE_BYTES)", c.cfg.MaxMessageBytes), 0)
	// Nor will it have one before the next answer, which is then a line of its own.
	c.printed(l.rest(l.lines.Partial()))
	c.suspects.finder.Line(nil)
	c.suspects.skipping = false
	l.lines.Cut()
	c.judge(0)
}
