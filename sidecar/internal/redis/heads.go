package redis

import (
	"context"
	_ "embed" // the scripts

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

//go:embed heads.lua
var headsLua string
var headsScript = joined(headsLua, nil)

//go:embed list_heads.lua
var listHeadsLua string
var listHeadsScript = joined(listHeadsLua, nil)

// Bounds of what is read to be looked at.
const (
	lookHead = 4 << 10 // of a record whose names are wanted
	lookRead = 4 << 20 // of whole records, in one step of Redis
	// fieldCopies is how often Redis copies a field that is read whole.
	fieldCopies = 4
)

// head is the beginning of a record, and its length.
type head struct {
	text   []byte
	length int
	there  bool
}

// info is what the record, or its head, tells.
func (h head) info() task.Info {
	if h.length == len(h.text) {
		info, _ := task.Decode(h.text)
		return info
	}
	return task.DecodeHead(h.text)
}

// mayNotScript: a user that may only read is often not allowed scripts. Records are
// then read whole.
func mayNotScript(err error) bool {
	_, name := classify(err)
	return name == "noperm"
}

// heads reads the first n bytes of fields of a hash.
func (s *Store) heads(ctx context.Context, key string, n int, fields ...string) ([]head, error) {
	var all []head
	for per := max(maxReply/n, 1); len(fields) > 0; {
		some := fields[:min(per, len(fields))]
		fields = fields[len(some):]
		part, err := s.fieldParts(ctx, key, 0, n, some)
		if err != nil {
			return nil, err
		}
		all = append(all, part...)
	}
	return all, nil
}

// fieldParts reads n bytes from an offset of each of some fields.
func (s *Store) fieldParts(ctx context.Context, key string, offset, n int, fields []string) ([]head, error) {
	args := []any{offset + 1, n}
	for _, f := range fields {
		args = append(args, f)
	}
	reply, err := headsScript().Run(ctx, s.c, []string{key}, args...).Slice()
	if mayNotScript(err) {
		if reply, err = s.c.HMGet(ctx, key, fields...).Result(); err == nil {
			cutFields(reply, offset, n)
		}
	}
	if err != nil {
		return nil, err
	}
	return toHeads(reply, len(fields))
}

// cutFields makes of whole fields what the script answers.
func cutFields(reply []any, offset, n int) {
	for i, r := range reply {
		if text, ok := r.(string); ok {
			from := min(offset, len(text))
			reply[i] = []any{int64(len(text)), text[from:min(from+n, len(text))]}
		}
	}
}

func toHeads(reply []any, want int) ([]head, error) {
	if len(reply) > want {
		return nil, errReply
	}
	all := make([]head, want)
	for i, r := range reply {
		if r == nil {
			continue
		}
		text, length, ok := headed(r)
		if !ok {
			return nil, errReply
		}
		all[i] = head{text, length, true}
	}
	return all, nil
}

// listHeads reads the first bytes of at most count elements of a list, from an index
// on and in steps of 1 or -1. It may read fewer than there are: each call ends when
// enough is read, and has one at least.
func (s *Store) listHeads(ctx context.Context, key string, index, step, count, bytes int) ([]head, error) {
	reply, err := listHeadsScript().Run(ctx, s.c, []string{key}, index, step, count, bytes, maxReply, lookRead).Slice()
	if mayNotScript(err) {
		var whole []string
		whole, err = s.c.LRange(ctx, key, int64(index), int64(index)).Result()
		reply = make([]any, len(whole))
		for i, text := range whole {
			reply[i] = text
		}
		cutFields(reply, 0, bytes)
	}
	if err != nil {
		return nil, err
	}
	return toHeads(reply, len(reply))
}

// field reads a field of a hash to its end, in parts.
//
// Redis copies the field once for each part. Of a long one the parts are larger, so that
// there are about [fieldCopies]: 100 MB in parts of 512 KiB were 20 GB to copy, in which
// Redis did nothing else. Where a larger reply is more than its
// client-output-buffer-limit, the parts are small again.
func (s *Store) field(ctx context.Context, key, name string) (text []byte, there bool, err error) {
	for size, most := maxReply, false; ; {
		got, err := s.fieldParts(ctx, key, len(text), size, []string{name})
		if err != nil && !isReply(err) && size > maxReply && ctx.Err() == nil {
			size, most = maxReply, true
			continue
		}
		if err != nil || !got[0].there {
			return nil, false, err
		}
		text = append(text, got[0].text...)
		if !most {
			size = max(maxReply, got[0].length/fieldCopies)
		}
		if len(text) >= got[0].length || len(got[0].text) == 0 {
			return text, true, nil
		}
	}
}
