package store

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// Fleet lists the member runs by their ids: what each says of itself, or else
// what its membership tells.
func (s *Store) Fleet(ctx context.Context) ([]fleet.Run, error) {
	ids, err := s.c.SMembers(ctx, s.keys.own("runs")).Result()
	if err != nil {
		return nil, failure("fleet", err)
	}
	slices.Sort(ids)
	infos, alive := make([]*redis.StringCmd, len(ids)), make([]*redis.IntCmd, len(ids))
	var paused *redis.MapStringStringCmd
	_, err = s.c.Pipelined(ctx, func(p redis.Pipeliner) error {
		paused = p.HGetAll(ctx, s.keys.own("paused"))
		for i, id := range ids {
			infos[i], alive[i] = p.Get(ctx, s.keys.own("info:"+id)), p.Exists(ctx, s.keys.alive(id))
		}
		return nil
	})
	if err != nil && !isNilReply(err) {
		return nil, failure("fleet", err)
	}
	_, all := paused.Val()[fleet.Everyone]
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

// oldestSample is how many records of each end of the queue are looked at for the
// oldest one. Groups are pushed to one end and single tasks to the other, so that
// it lies at an end unless both kinds have piled up.
const oldestSample = 50

// smallRecord bounds the records of which so many are fetched: of large ones only
// the first and the last is, since whoever looks every few seconds must not move
// gigabytes.
const smallRecord = 16 << 10

// Overview is the state of the queue. The age of the oldest record is by the
// clock of its producer against Redis', and that of the records at either end of
// a long queue.
func (s *Store) Overview(ctx context.Context) (fleet.Queue, error) {
	var (
		depth, delayed, unrouted, dead *redis.IntCmd
		paused                         *redis.BoolCmd
		left, right                    *redis.StringSliceCmd
		now                            *redis.TimeCmd
		runs                           *redis.StringSliceCmd
	)
	_, err := s.c.Pipelined(ctx, func(p redis.Pipeliner) error {
		depth, delayed = p.LLen(ctx, s.keys.queue()), p.ZCard(ctx, s.keys.own("delayed"))
		unrouted, dead = p.LLen(ctx, s.keys.own("unrouted")), p.ZCard(ctx, s.keys.own("dead"))
		paused = p.HExists(ctx, s.keys.own("paused"), fleet.Everyone)
		left, right = p.LRange(ctx, s.keys.queue(), 0, 0), p.LRange(ctx, s.keys.queue(), -1, -1)
		runs = p.SMembers(ctx, s.keys.own("runs"))
		return nil
	})
	if err != nil {
		return fleet.Queue{}, failure("overview", err)
	}
	held := make([]*redis.IntCmd, len(runs.Val()))
	_, err = s.c.Pipelined(ctx, func(p redis.Pipeliner) error {
		now = p.Time(ctx)
		if small(left.Val()) && small(right.Val()) {
			left = p.LRange(ctx, s.keys.queue(), 0, oldestSample-1)
			right = p.LRange(ctx, s.keys.queue(), -oldestSample, -1)
		}
		for i, run := range runs.Val() {
			held[i] = p.HLen(ctx, s.keys.inflight(run))
		}
		return nil
	})
	if err != nil {
		return fleet.Queue{}, failure("overview", err)
	}
	q := fleet.Queue{
		Depth: depth.Val(), Delayed: delayed.Val(), Unrouted: unrouted.Val(), Dead: dead.Val(), Paused: paused.Val(),
	}
	for _, n := range held {
		q.InFlight += n.Val()
	}
	for _, record := range slices.Concat(left.Val(), right.Val()) {
		info, _ := task.Decode([]byte(record))
		if at := createdAt(info); !at.IsZero() {
			q.Oldest = max(q.Oldest, now.Val().Sub(at))
		}
	}
	return q, nil
}

func small(records []string) bool {
	return !slices.ContainsFunc(records, func(r string) bool { return len(r) > smallRecord })
}

// createdAt is when a record says it was made; zero where it does not.
func createdAt(info task.Info) time.Time {
	seconds, err := strconv.ParseFloat(info.CreatedAt, 64)
	if err != nil || seconds <= 0 || seconds > 1e11 {
		return time.Time{}
	}
	return time.UnixMicro(int64(seconds * 1e6)).UTC()
}

// Peek reads the records that are claimed next, at most n.
func (s *Store) Peek(ctx context.Context, n int) ([]fleet.Record, error) {
	from, to := int64(0), int64(n)-1
	if s.o.QueueRight {
		from, to = -int64(n), -1
	}
	raw, err := s.c.LRange(ctx, s.keys.queue(), from, to).Result()
	if err != nil {
		return nil, failure("peek", err)
	}
	if s.o.QueueRight {
		slices.Reverse(raw)
	}
	list := make([]fleet.Record, len(raw))
	for i, text := range raw {
		info, err := task.Decode([]byte(text))
		list[i] = fleet.Record{
			Index: int64(i), TaskID: info.TaskID, SessionID: info.SessionID, GroupID: info.GroupID,
			CreatedAt: createdAt(info), Raw: []byte(text),
		}
		if err != nil {
			list[i].Problem = err.Error()
		}
	}
	return list, nil
}

// InFlight lists what the member runs have claimed and not ended, the longest
// running first: who has it is certain, and where it runs is what its run said
// last.
func (s *Store) InFlight(ctx context.Context) ([]fleet.InFlight, error) {
	runs, err := s.Fleet(ctx)
	if err != nil {
		return nil, err
	}
	held := make([]*redis.MapStringStringCmd, len(runs))
	_, err = s.c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range runs {
			held[i] = p.HGetAll(ctx, s.keys.inflight(runs[i].ID))
		}
		return nil
	})
	if err != nil {
		return nil, failure("in flight", err)
	}
	var list []fleet.InFlight
	for i := range runs {
		list = append(list, inFlight(&runs[i], held[i].Val())...)
	}
	slices.SortFunc(list, func(a, b fleet.InFlight) int {
		if a.Since.IsZero() != b.Since.IsZero() {
			if a.Since.IsZero() { // what does not run comes last
				return 1
			}
			return -1
		}
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Run, b.Run), sequence(a.Delivery)-sequence(b.Delivery))
	})
	return list, nil
}

func inFlight(run *fleet.Run, records map[string]string) []fleet.InFlight {
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
	for delivery, record := range records {
		f, ok := started[delivery]
		if !ok {
			f.State = "held"
		}
		info, _ := task.Decode([]byte(record))
		f.Delivery, f.Run, f.Host = delivery, run.ID, run.Host
		f.TaskID, f.SessionID, f.GroupID = info.TaskID, info.SessionID, info.GroupID
		list = append(list, f)
	}
	return list
}

// sequence is the number at the end of a delivery id.
func sequence(delivery string) int {
	n, _ := strconv.Atoi(delivery[strings.LastIndexByte(delivery, '.')+1:])
	return n
}
