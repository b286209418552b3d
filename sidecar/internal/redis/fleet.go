package redis

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// Fleet returns the member runs sorted by id, each with its published description, or
// with only its id if it has none.
func (s *Store) Fleet(ctx context.Context) ([]fleet.Run, error) {
	ids, err := s.c.SMembers(ctx, s.keys.own("runs")).Result()
	if err != nil {
		return nil, failure("fleet", err)
	}
	slices.Sort(ids)
	infos, alive := make([]*goredis.StringCmd, len(ids)), make([]*goredis.IntCmd, len(ids))
	var paused *goredis.MapStringStringCmd
	_, _ = s.c.Pipelined(ctx, func(p goredis.Pipeliner) error { // each reply has its own error
		paused = p.HGetAll(ctx, s.keys.own("paused"))
		for i, id := range ids {
			infos[i], alive[i] = p.Get(ctx, s.keys.own("info:"+id)), p.Exists(ctx, s.keys.alive(id))
		}
		return nil
	})
	if err := paused.Err(); err != nil {
		return nil, failure("fleet", err)
	}
	for i := range ids {
		if err := infos[i].Err(); err != nil && !isNilReply(err) && !isWrongType(err) {
			return nil, failure("fleet", err)
		}
		if err := alive[i].Err(); err != nil {
			return nil, failure("fleet", err)
		}
	}
	_, all := paused.Val()[fleet.AllRuns]
	runs := make([]fleet.Run, len(ids))
	for i, id := range ids {
		run := &runs[i]
		if json.Unmarshal([]byte(infos[i].Val()), run) != nil {
			*run = fleet.Run{State: fleet.Unknown}
		}
		run.ID = id
		if alive[i].Val() == 0 {
			run.State = fleet.Absent
		}
		_, own := paused.Val()[id]
		run.Paused = own || all
	}
	return runs, nil
}

// oldestSample is the number of records at each end of the queue that are examined for
// the oldest one. Groups are pushed to one end and single tasks to the other, so the
// oldest record is at an end unless both have piled up.
const oldestSample = 50

// Overview returns the state of the queue. The age of the oldest record compares the
// clock of its producer with that of Redis. In a long queue it considers only the records
// at both ends.
func (s *Store) Overview(ctx context.Context) (fleet.Queue, error) {
	var (
		depth, delayed, unrouted, dead *goredis.IntCmd
		paused                         *goredis.BoolCmd
		now                            *goredis.TimeCmd
		runs                           *goredis.StringSliceCmd
	)
	_, err := s.c.Pipelined(ctx, func(p goredis.Pipeliner) error {
		depth, delayed = p.LLen(ctx, s.keys.queue()), p.ZCard(ctx, s.keys.own("delayed"))
		unrouted, dead = p.LLen(ctx, s.keys.own("unrouted")), p.ZCard(ctx, s.keys.own("dead"))
		paused = p.HExists(ctx, s.keys.own("paused"), fleet.AllRuns)
		runs = p.SMembers(ctx, s.keys.own("runs"))
		return nil
	})
	if err != nil {
		return fleet.Queue{}, failure("overview", err)
	}
	counts := make([]*goredis.IntCmd, len(runs.Val()))
	_, _ = s.c.Pipelined(ctx, func(p goredis.Pipeliner) error { // each reply has its own error
		now = p.Time(ctx)
		for i, run := range runs.Val() {
			counts[i] = p.HLen(ctx, s.keys.inflight(run))
		}
		return nil
	})
	if err := now.Err(); err != nil {
		return fleet.Queue{}, failure("overview", err)
	}
	for _, n := range counts {
		if err := n.Err(); err != nil && !isWrongType(err) {
			return fleet.Queue{}, failure("overview", err)
		}
	}
	q := fleet.Queue{
		Depth: depth.Val(), Delayed: delayed.Val(), Unrouted: unrouted.Val(), Dead: dead.Val(), Paused: paused.Val(),
	}
	for _, n := range counts {
		q.InFlight += n.Val()
	}
	left, err := s.listHeads(ctx, s.keys.queue(), 0, 1, oldestSample, lookHead)
	if err != nil {
		return fleet.Queue{}, failure("overview", err)
	}
	right, err := s.listHeads(ctx, s.keys.queue(), -1, -1, oldestSample, lookHead)
	if err != nil {
		return fleet.Queue{}, failure("overview", err)
	}
	for _, record := range slices.Concat(left, right) {
		if age, ok := record.info().Age(now.Val()); ok && (q.Oldest == nil || age > *q.Oldest) {
			q.Oldest = &age
		}
	}
	return q, nil
}

// Peek returns the records that are claimed next, at most n, with at most 64 KiB of each.
func (s *Store) Peek(ctx context.Context, n int) ([]fleet.Record, error) {
	first, step := 0, 1
	if s.o.QueueRight {
		first, step = -1, -1
	}
	var raw []head
	for len(raw) < n {
		some, err := s.listHeads(ctx, s.keys.queue(), first+step*len(raw), step, n-len(raw), maxHead)
		if err != nil {
			return nil, failure("peek", err)
		}
		if len(some) == 0 {
			break
		}
		raw = append(raw, some...)
	}
	now, err := s.c.Time(ctx).Result()
	if err != nil {
		return nil, failure("peek", err)
	}
	list := make([]fleet.Record, len(raw))
	for i, record := range raw {
		info, err := record.info(), error(nil)
		if record.length == len(record.text) {
			_, err = task.Decode(record.text)
		}
		list[i] = fleet.Record{
			Index: int64(i), TaskID: info.TaskID, SessionID: info.SessionID, GroupID: info.GroupID,
			Bytes: record.length, Raw: record.text,
		}
		list[i].CreatedAt, _ = info.Created()
		if age, ok := info.Age(now); ok {
			list[i].Age = &age
		}
		if err != nil {
			list[i].Problem = err.Error()
		}
	}
	return list, nil
}

// InFlight returns the deliveries of the member runs that are in flight, the longest
// running first. The run of a delivery is certain; its slot is as last published by the
// run.
func (s *Store) InFlight(ctx context.Context) ([]fleet.InFlight, error) {
	runs, err := s.Fleet(ctx)
	if err != nil {
		return nil, err
	}
	var list []fleet.InFlight
	for i := range runs {
		key := s.keys.inflight(runs[i].ID)
		ids, err := s.c.HKeys(ctx, key).Result()
		if isWrongType(err) {
			continue
		}
		if err != nil {
			return nil, failure("in flight", err)
		}
		records, err := s.heads(ctx, key, lookHead, ids...)
		if err != nil {
			return nil, failure("in flight", err)
		}
		list = append(list, inFlight(&runs[i], ids, records)...)
	}
	slices.SortFunc(list, func(a, b fleet.InFlight) int {
		if a.Since.IsZero() != b.Since.IsZero() {
			if a.Since.IsZero() { // tasks that do not run come last
				return 1
			}
			return -1
		}
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Run, b.Run), sequence(a.Delivery)-sequence(b.Delivery))
	})
	return list, nil
}

func inFlight(run *fleet.Run, ids []string, records []head) []fleet.InFlight {
	list := make([]fleet.InFlight, 0, len(records))
	started := make(map[string]fleet.InFlight)
	for _, c := range run.Children {
		for _, t := range c.Tasks {
			state := "running"
			if t.Waiting {
				state = "waiting"
			}
			started[t.Delivery] = fleet.InFlight{Task: t, State: state, Slot: &c.Slot, PID: c.PID}
		}
	}
	for i, delivery := range ids {
		if !records[i].there {
			continue // the delivery has ended meanwhile
		}
		f, ok := started[delivery]
		if !ok {
			f.State = "held"
		}
		info := records[i].info()
		f.Delivery, f.Run, f.Host = delivery, run.ID, run.Host
		f.TaskID, f.SessionID, f.GroupID = info.TaskID, info.SessionID, info.GroupID
		list = append(list, f)
	}
	return list
}

// sequence returns the number at the end of a delivery id.
func sequence(delivery string) int {
	n, _ := strconv.Atoi(delivery[strings.LastIndexByte(delivery, '.')+1:])
	return n
}
