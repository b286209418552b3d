// Package requests serves the requests of workers for their tasks: values in the
// channel of their workflow, locks, inputs, and records to add to the queue.
package requests

import (
	"context"
	"encoding/json"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/health"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// Lanes is the maximum number of concurrent requests to Redis, over all workers. Each
// has a connection. Other requests wait.
const Lanes = 16

// Server answers the requests of all workers. Its methods may be called concurrently.
type Server struct {
	mon   *health.Monitor
	log   *slog.Logger
	st    *redis.Store
	max   int // maximum bytes of an answer
	lanes chan *redis.Turn
	locks locks

	mu       sync.Mutex
	loggedAt time.Time // when a refusal was last logged, see failed
}

// New makes a server. max is the maximum number of bytes of an answer.
func New(mon *health.Monitor, log *slog.Logger, st *redis.Store, max int) *Server {
	a := &Server{mon: mon, log: log, st: st, max: max, lanes: make(chan *redis.Turn, Lanes), locks: locks{byDelivery: map[string][]lock{}}}
	for n := range Lanes {
		a.lanes <- &redis.Turn{Lane: n}
	}
	return a
}

// Serve answers one request. While Redis is away it waits as long as the task runs: the
// outage is not a failure of the task.
func (a *Server) Serve(ctx context.Context, t *task.Task, method string, q *protocol.TaskRequest) ([]byte, error) {
	if method == protocol.MethodTaskEnqueue {
		return a.enqueue(ctx, t, q)
	}
	ch, err := a.channel(t)
	if err != nil {
		return nil, err
	}
	switch method {
	case protocol.MethodChannelGet:
		return a.get(ctx, ch, q)
	case protocol.MethodChannelKeys:
		return a.keys(ctx, ch)
	case protocol.MethodChannelLock:
		return a.lock(ctx, t, ch, q)
	case protocol.MethodChannelUnlock:
		return a.unlock(ctx, t, ch, q)
	default:
		return a.one(ctx, ch, method, q)
	}
}

// channel returns the channel of a task's session.
func (a *Server) channel(t *task.Task) (*redis.Channel, error) {
	if t.Info.SessionID == "" {
		return nil, protocol.Errorf(protocol.CodeInvalidParams, "the record of this task has no session_id, so it has no channel")
	}
	ch, err := a.st.Channel(t.Info.SessionID, t.Delivery)
	if err != nil {
		return nil, protocol.Errorf(protocol.CodeMethodNotFound, "%v", err)
	}
	return ch, nil
}

// one serves the requests that are one operation in Redis and have a result of one
// member.
func (a *Server) one(ctx context.Context, ch *redis.Channel, method string, q *protocol.TaskRequest) ([]byte, error) {
	ttl := time.Duration(q.TTLMs) * time.Millisecond
	var out []byte
	count := func(name string, n int64, err error) error {
		out = strconv.AppendInt([]byte(`{"`+name+`":`), n, 10)
		return err
	}
	flag := func(name string, is bool, err error) error {
		out = strconv.AppendBool([]byte(`{"`+name+`":`), is)
		return err
	}
	err := a.redis(ctx, func(turn redis.Turn) error {
		switch method {
		case protocol.MethodChannelSet:
			out = []byte{'{'}
			return ch.Set(ctx, turn, q.Key, q.Value, ttl)
		case protocol.MethodChannelDelete:
			is, err := ch.Delete(ctx, turn, q.Key)
			return flag("deleted", is, err)
		case protocol.MethodChannelExists:
			is, err := ch.Exists(ctx, q.Key)
			return flag("exists", is, err)
		case protocol.MethodChannelAppend:
			n, err := ch.Append(ctx, turn, q.Key, q.Value, ttl)
			return count("length", n, err)
		case protocol.MethodChannelPrepend:
			n, err := ch.Prepend(ctx, turn, q.Key, q.Value, ttl)
			return count("length", n, err)
		case protocol.MethodChannelAdd:
			sum, err := ch.Add(ctx, turn, q.Key, q.Amount)
			if err == nil {
				out, err = protocol.AppendValue([]byte{'{'}, []byte(sum))
			}
			return err
		default:
			return protocol.Errorf(protocol.CodeMethodNotFound, "method not found: %s", method)
		}
	})
	if err != nil {
		return nil, workerError(q.Key, err)
	}
	return append(out, '}'), nil
}

func (a *Server) get(ctx context.Context, ch *redis.Channel, q *protocol.TaskRequest) ([]byte, error) {
	keys := q.Keys
	if keys == nil {
		keys = []string{q.Key}
	}
	values, err := a.read(ctx, ch, keys)
	if err != nil {
		return nil, err
	}
	var out []byte
	if q.Keys != nil {
		out = append(out, `{"values":[`...)
	}
	for i, v := range values {
		if i > 0 {
			out = append(out, ',')
		}
		if out, err = appendFound(out, keys[i], v); err != nil {
			return nil, err
		}
		if len(out) > a.max {
			return nil, protocol.Errorf(protocol.CodeInvalidParams, "the answer has more than the %d bytes that are allowed (SIDECAR_MAX_MESSAGE_BYTES)", a.max)
		}
	}
	if q.Keys != nil {
		out = append(out, `]}`...)
	}
	return out, nil
}

// appendFound appends the value of one key. Empty text counts as missing, as in
// Graflow's channel.
func appendFound(out []byte, key string, v redis.Value) ([]byte, error) {
	switch {
	case v.WrongType:
		return nil, workerError(key, redis.ErrType)
	case !v.Found || len(v.Text) == 0:
		return append(out, `{"found":false}`...), nil
	}
	out, err := protocol.AppendValue(append(out, `{"found":true,`...), v.Text)
	if err != nil {
		return nil, workerError(key, err)
	}
	return append(out, '}'), nil
}

func (a *Server) read(ctx context.Context, ch *redis.Channel, keys []string) (values []redis.Value, err error) {
	err = a.redis(ctx, func(redis.Turn) (err error) {
		values, err = ch.Get(ctx, keys...)
		return err
	})
	return values, workerError("", err)
}

func (a *Server) keys(ctx context.Context, ch *redis.Channel) ([]byte, error) {
	var keys []string
	err := a.redis(ctx, func(redis.Turn) (err error) {
		keys, err = ch.Keys(ctx, a.max)
		return err
	})
	if err != nil {
		return nil, workerError("", err)
	}
	return json.Marshal(struct {
		Keys []string `json:"keys"`
	}{append([]string{}, keys...)})
}

// enqueue adds a record to the queue (P49).
func (a *Server) enqueue(ctx context.Context, t *task.Task, q *protocol.TaskRequest) ([]byte, error) {
	record, err := completeRecord(q.Record, t.Info, time.Now())
	if err != nil {
		return nil, protocol.Errorf(protocol.CodeInvalidParams, "the record is not one: %v", err)
	}
	if err := a.redis(ctx, func(turn redis.Turn) error { return a.st.Enqueue(ctx, turn, t.Delivery, record) }); err != nil {
		return nil, workerError("", err)
	}
	return []byte(`{}`), nil
}

// redis repeats one operation until it succeeds or ctx ends. It waits after transient
// errors; any other error is the answer.
func (a *Server) redis(ctx context.Context, do func(redis.Turn) error) error {
	var lane *redis.Turn
	select {
	case lane = <-a.lanes:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { a.lanes <- lane }()
	lane.N++
	pause := backoff.New(a.mon.Pause)
	for {
		if err := a.mon.WaitReached(ctx); err != nil {
			return err
		}
		err := do(*lane)
		switch class := redis.Classify(err); {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case class == redis.ClassCanceled:
			// The connections are closed at a stop. An error now would make the task
			// report a failure before it is cancelled.
			<-ctx.Done()
			return ctx.Err()
		case isRefusal(err), class != redis.ClassTransient:
			return err
		}
		a.failed(err)
		if a.mon.WaitReached(ctx) == nil {
			pause.Sleep(ctx)
		}
	}
}

// failed logs a transient error. It reports only a lost connection to the monitor:
// while Redis refuses some operations and serves others, the claims and reports
// determine the state of the monitor, and a second source would make it alternate.
func (a *Server) failed(err error) {
	if !redis.Answered(err) {
		a.mon.Failed(err)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Since(a.loggedAt) >= refusalReminder {
		a.loggedAt = time.Now()
		a.log.Warn("redis refuses a request of a worker: the request waits", "class", redis.ClassName(err), "error", err.Error())
	}
}

// refusalReminder is the minimum time between two log lines about refusals.
const refusalReminder = 10 * time.Second
