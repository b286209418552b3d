package conformance

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/graflow/graflow-sidecar/protocol"
)

// outgoing makes the line that a → step sends, its end included.
func (s step) outgoing(records Records, processID string) (string, error) {
	end, rest := "\n", s.rest
	if text, ok := strings.CutPrefix(rest, "crlf "); ok {
		end, rest = "\r\n", text
	}
	if members, ok := strings.CutPrefix(rest, "initialize "); ok {
		line, err := initialize(processID, members)
		return line + end, err
	}
	if !strings.HasPrefix(strings.TrimLeft(rest, " \t"), "{") && !strings.HasPrefix(rest, "${") {
		line, err := shorthand(s.args, records)
		return string(line) + end, err
	}
	line, err := expand(rest)
	return line + end, err
}

// shorthand writes the messages that need no spelling out.
func shorthand(args []string, records Records) ([]byte, error) {
	id := int64(0)
	if len(args) > 1 {
		n, err := strconv.ParseInt(args[1], 10, 64)
		if err != nil {
			return nil, err
		}
		id = n
	}
	switch {
	case args[0] == "run" && len(args) == 3:
		record := records.named(args[2])
		if record == nil {
			return nil, fmt.Errorf("no record %s", args[2])
		}
		return protocol.AppendTaskRun(nil, id, protocol.RunParams{Delivery: delivery(args[1]), Record: record, Attempt: 1}), nil
	case args[0] == "ping" && len(args) == 2:
		return protocol.AppendRequest(nil, id, protocol.MethodPing, nil), nil
	case args[0] == "cancel" && len(args) == 2:
		return protocol.AppendNotification(nil, protocol.MethodCancel, []byte(`{"id":`+args[1]+`}`)), nil
	case args[0] == "shutdown" && len(args) == 1:
		return protocol.AppendNotification(nil, protocol.MethodShutdown, []byte(`{"budgetMs":20000}`)), nil
	default:
		return nil, fmt.Errorf("nothing to send: %s", strings.Join(args, " "))
	}
}

func delivery(id string) string { return "conformance-1." + id }

// expand writes the repetitions of a line out.
func expand(line string) (string, error) {
	var b strings.Builder
	padAt, padTo := -1, 0
	for {
		before, after, found := strings.Cut(line, "${")
		b.WriteString(before)
		if !found {
			break
		}
		macro, rest, _ := strings.Cut(after[1:], "}") // the character may be a }
		macro, line = after[:1]+macro, rest
		if size, ok := strings.CutPrefix(macro, "pad "); ok {
			n, err := strconv.Atoi(size)
			if err != nil {
				return "", fmt.Errorf("${%s}: %w", macro, err)
			}
			padAt, padTo = b.Len(), n
			continue
		}
		n, err := strconv.Atoi(macro[1:])
		if err != nil {
			return "", fmt.Errorf("${%s}: %w", macro, err)
		}
		b.WriteString(strings.Repeat(macro[:1], n))
	}
	text := b.String()
	if padAt >= 0 {
		text = text[:padAt] + strings.Repeat("x", max(0, padTo-len(text))) + text[padAt:]
	}
	return text, nil
}

// initialize makes the first message, with members merged into its params.
func initialize(processID, members string) (string, error) {
	params := map[string]any{
		"protocolVersion": protocol.Version,
		"sidecar":         protocol.Peer{Name: "sidecar-worker-test", Version: "1"},
		"workerId":        "conformance",
		"slot":            0,
		"processId":       processID,
		"limits":          protocol.Limits{MaxMessageBytes: protocol.DefaultMaxMessageBytes},
	}
	if members != "" {
		if err := json.Unmarshal([]byte(members), &params); err != nil {
			return "", err
		}
	}
	raw, err := json.Marshal(params)
	return string(protocol.AppendRequest(nil, 1, protocol.MethodInitialize, raw)), err
}
