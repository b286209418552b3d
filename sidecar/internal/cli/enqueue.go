package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/graflow/graflow-sidecar/internal/jsonscan"
	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// draft is a record that flags describe.
type draft struct {
	task, session, graphHash, group, trace, parentSpan string
	timeout                                            time.Duration
	set                                                []string
}

// maxRecord is the longest line on stdin that is taken for a record.
const maxRecord = 64 << 20

func enqueueCommand() *cobra.Command {
	d, wait, patience := draft{}, false, time.Duration(0)
	c := &cobra.Command{
		Use:   "enqueue",
		Short: "Put a record into the queue, from flags or from JSON lines on stdin",
		Long: `Makes one record in Graflow's format from flags, or takes records from stdin, one JSON
object a line, and appends them to the queue as Graflow does. A record from stdin stays
as it is, byte for byte; it gets a created_at if it has none, and with --wait a group.

--wait waits for the outcomes. Records without a group get one that lives for as long
as the command waits: a barrier as Graflow's, whose keys are removed at the end, also
after Ctrl-C. A record of another producer's group is waited for through that group's
completions, which must be open. The status is 0 when all succeeded, 1 when one failed,
75 when --wait-timeout was over; tasks that were enqueued then still run.`,
		Example: `  sidecar enqueue --task fetch --session s1 --set 'params={"url":"https://example.org"}'
  sidecar enqueue --wait < records.jsonl
  sidecar enqueue --task slow --timeout 30s --wait -o json`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&d.task, "task", "", "task_id")
	f.StringVar(&d.session, "session", "", "session_id; one of its own if not given")
	f.StringVar(&d.graphHash, "graph-hash", "", "graph_hash: what Graflow's worker looks the task up by")
	f.StringVar(&d.group, "group", "", "group_id: of a group whose producer waits")
	f.StringVar(&d.trace, "trace-id", "", "trace_id; the session's id if not given, as Graflow has it")
	f.StringVar(&d.parentSpan, "parent-span-id", "", "parent_span_id")
	f.DurationVar(&d.timeout, "timeout", 0, "the record's own deadline for a run; 0 for none")
	f.StringArrayVar(&d.set, "set", nil, "one more member, as `name=value`; a value that is no JSON is a text; may be repeated")
	f.BoolVar(&wait, "wait", false, "wait for the outcomes, with a progress bar on a terminal")
	f.DurationVar(&patience, "wait-timeout", 0, "how long to wait at most; 0 for as long as it takes")
	return command(c, func(ctx context.Context, s *session, _ []string) error {
		records, err := s.records(d, c)
		if err != nil {
			return err
		}
		if wait {
			return s.enqueueAndWait(ctx, records, patience)
		}
		ctx, cancel := bounded(ctx)
		defer cancel()
		raw := make([][]byte, len(records))
		ids := make([]string, len(records))
		for i, r := range records {
			raw[i], ids[i] = r.raw, r.info.TaskID
		}
		depth, err := s.push(ctx, raw)
		if err != nil {
			return err
		}
		if s.out.json {
			return s.out.object(struct {
				Enqueued []string `json:"enqueued"`
				Depth    int64    `json:"depth"`
			}{ids, depth}, false)
		}
		s.out.say("enqueued %d, the queue has %d", len(ids), depth)
		return nil
	})
}

// push adds records to the queue and returns how long it is then. An error says how
// many were added.
func (s *session) push(ctx context.Context, raw [][]byte) (int64, error) {
	added, depth, err := s.st.Push(ctx, raw...)
	if rejected, ok := errors.AsType[*redis.RejectedError](err); ok {
		err = &StatusError{statusNo, errors.New(rejected.Explain(fmt.Sprintf("record %d", added+1)))}
	}
	if err != nil && added > 0 {
		fmt.Fprintf(s.errOut, "sidecar: %d of %d records are in the queue\n", added, len(raw))
	}
	return depth, err
}

// record is one that is about to be enqueued.
type record struct {
	raw  []byte
	info task.Info
}

func (s *session) records(d draft, c *cobra.Command) ([]record, error) {
	if d.task != "" {
		raw, err := d.record(time.Now())
		if err != nil {
			return nil, err
		}
		return decoded([][]byte{raw})
	}
	for _, name := range []string{"session", "graph-hash", "group", "trace-id", "parent-span-id", "timeout", "set"} {
		if c.Flags().Changed(name) {
			return nil, wrongUse("--%s is for a record of flags, which needs --task", name)
		}
	}
	if s.in != nil && term.IsTerminal(int(s.in.Fd())) {
		return nil, wrongUse("give --task, or records on stdin, one JSON object a line")
	}
	return readRecords(c.InOrStdin())
}

func readRecords(r io.Reader) ([]record, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxRecord)
	var raw [][]byte
	for n := 0; lines.Scan(); n++ {
		line := lines.Bytes()
		if n == 0 { // of a file that an editor of Windows wrote
			line = protocol.TrimByteOrderMark(line)
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		info, err := task.Decode(line)
		if err != nil {
			return nil, wrongUse("line %d: %w", n+1, err)
		}
		line = slices.Clone(line)
		if info.CreatedAt == "" {
			line = with(line, "created_at", stamp(time.Now().Add(time.Duration(n)*time.Microsecond)))
		}
		raw = append(raw, line)
	}
	if err := lines.Err(); err != nil {
		return nil, wrongUse("stdin: %w", err)
	}
	if len(raw) == 0 {
		return nil, wrongUse("there is no record on stdin")
	}
	return decoded(raw)
}

func decoded(raw [][]byte) ([]record, error) {
	list := make([]record, len(raw))
	for i, r := range raw {
		info, err := task.Decode(r)
		if err != nil {
			return nil, wrongUse("%w", err)
		}
		list[i] = record{r, info}
	}
	return list, nil
}

// stamp is a time as Graflow writes it: seconds, with six digits so that two
// records of a moment differ.
func stamp(t time.Time) []byte {
	return strconv.AppendFloat(nil, float64(t.UnixMicro())/1e6, 'f', 6, 64)
}

// with gives an object a member and leaves the rest as it is, byte for byte: in the place
// of its value where the object has such a member, as Graflow writes a null, or else at
// the end. object is valid JSON.
func with(object []byte, name string, value []byte) []byte {
	s := jsonscan.Scanner{Data: object}
	s.Space()
	s.Pos++ // the brace
	from, to, members := 0, 0, 0
	for member, more := s.Member(true); more; member, more = s.Member(false) {
		members++
		at := s.Pos
		if !s.Value(maxDepth) {
			break
		}
		if string(member) == name { // the last one holds, for Go and Python
			from, to = at, s.Pos
		}
	}
	if to > 0 {
		return slices.Concat(object[:from], value, object[to:])
	}
	object = bytes.TrimRight(object, " \t\r\n")
	object = bytes.TrimRight(bytes.TrimSuffix(object, []byte("}")), " \t\r\n")
	comma := ","
	if members == 0 {
		comma = ""
	}
	return fmt.Appendf(slices.Clip(object), "%s%q:%s}", comma, name, value)
}

// maxDepth is how deep a value may nest: that of encoding/json.
const maxDepth = 10000

// record is the draft in Graflow's format (SerializedTaskRecord in its
// coordination/records.py).
func (d draft) record(now time.Time) ([]byte, error) {
	session := d.session
	if session == "" {
		session = "enqueue-" + strconv.FormatInt(now.UnixNano(), 36)
	}
	trace := d.trace
	if trace == "" {
		trace = session
	}
	null := func(text string) any {
		if text == "" {
			return nil
		}
		return text
	}
	var b bytes.Buffer
	b.WriteByte('{')
	member := func(name string, value any) {
		text, err := json.Marshal(value)
		if err != nil {
			text = []byte("null")
		}
		if b.Len() > 1 {
			b.WriteString(", ")
		}
		quoted, _ := json.Marshal(name)
		b.Write(quoted)
		b.WriteString(": ")
		b.Write(text)
	}
	member("task_id", d.task)
	member("session_id", session)
	member("graph_hash", d.graphHash)
	member("trace_id", trace)
	member("created_at", json.RawMessage(stamp(now)))
	member("group_id", null(d.group))
	member("parent_span_id", null(d.parentSpan))
	if d.timeout < 0 {
		return nil, wrongUse("--timeout is %v, and must not be negative", d.timeout)
	}
	if d.timeout > 0 {
		member("timeout", d.timeout.Seconds())
	}
	ours := []string{"task_id", "session_id", "graph_hash", "trace_id", "created_at", "group_id", "parent_span_id", "timeout"}
	for _, entry := range d.set {
		name, text, ok := strings.Cut(entry, "=")
		if !ok || name == "" {
			return nil, wrongUse("--set is %q, and must be name=value", entry)
		}
		if slices.Contains(ours, name) {
			return nil, wrongUse("--set %s: there is a flag for this member, or it is ours", name)
		}
		ours = append(ours, name)
		if json.Valid([]byte(text)) {
			member(name, json.RawMessage(text))
		} else {
			member(name, text)
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// errTimeUp: --wait-timeout is over.
var errTimeUp = errors.New("the time of --wait-timeout is over")
