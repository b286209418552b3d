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

// Limits for reads of record heads.
const (
	lookHead = 4 << 10 // bytes of a record whose ids are needed
	lookRead = 4 << 20 // bytes of whole records in one step of Redis
	// fieldCopies is about how often Redis copies a field that is read whole.
	fieldCopies = 4
)

// head is the first part of a record, and the length of the whole.
type head struct {
	text   []byte
	length int
	there  bool
}

// info decodes the record or its head.
func (h head) info() task.Info {
	if h.length == len(h.text) {
		info, _ := task.Decode(h.text)
		return info
	}
	return task.DecodeHead(h.text)
}

// mayNotScript reports whether the Redis user may not run scripts, as read-only users
// often may not. Records are then read whole.
func mayNotScript(err error) bool {
	_, name := classify(err)
	return name == "noperm"
}

// heads reads the first n bytes of some fields of a hash.
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

// fieldParts reads n bytes of some fields of a hash, from an offset.
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

// cutFields converts whole fields to the reply format of the script.
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

// listHeads reads the first bytes of at most count elements of a list, from an index on
// in steps of 1 or -1. A call ends at its byte limits and may return fewer elements, but
// at least one if there is one.
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
// Redis copies the field once for each part. The parts of a long field are larger, so
// that there are about [fieldCopies]: 100 MB in parts of 512 KiB needed 20 GB of copies
// that blocked Redis. If a larger reply exceeds the client-output-buffer-limit of Redis,
// field continues with small parts.
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
