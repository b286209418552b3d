package web

import (
	"context"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis/link"
)

// pageConns is how many connections the page has, of its own, so that it never delays
// a claim or a report. One reads, the others do what is clicked.
const pageConns = 3

// pageRedis is what the page says to Redis.
type pageRedis struct {
	st   *redis.Store
	away func() bool
	self func() fleet.Run
}

// open keeps the page from a connection that is known to be dead, as the stages do.
func (r *pageRedis) open() error {
	if r.away() {
		return link.ErrUnavailable
	}
	return nil
}

func (r *pageRedis) Self() fleet.Run { return r.self() }

func (r *pageRedis) Overview(ctx context.Context) (fleet.Queue, error) {
	if err := r.open(); err != nil {
		return fleet.Queue{}, err
	}
	return r.st.Overview(ctx)
}

func (r *pageRedis) Fleet(ctx context.Context) ([]fleet.Run, error) {
	if err := r.open(); err != nil {
		return nil, err
	}
	return r.st.Fleet(ctx)
}

func (r *pageRedis) DeadLetters(ctx context.Context, limit int) ([]fleet.DeadLetter, error) {
	if err := r.open(); err != nil {
		return nil, err
	}
	return r.st.DeadLetters(ctx, limit)
}

func (r *pageRedis) DeadLetter(ctx context.Context, id string) (fleet.DeadLetter, bool, error) {
	if err := r.open(); err != nil {
		return fleet.DeadLetter{}, false, err
	}
	return r.st.DeadLetterHead(ctx, id)
}

func (r *pageRedis) Requeue(ctx context.Context, id string, force bool) (fleet.Requeued, error) {
	if err := r.open(); err != nil {
		return "", err
	}
	return r.st.Requeue(ctx, id, force)
}

func (r *pageRedis) Drop(ctx context.Context, id string) (bool, error) {
	if err := r.open(); err != nil {
		return false, err
	}
	return r.st.Drop(ctx, id)
}

func (r *pageRedis) Pause(ctx context.Context, run, by string) error {
	if err := r.open(); err != nil {
		return err
	}
	return r.st.Pause(ctx, run, by)
}

func (r *pageRedis) Unpause(ctx context.Context, run string) error {
	if err := r.open(); err != nil {
		return err
	}
	return r.st.Unpause(ctx, run)
}

func (r *pageRedis) Order(ctx context.Context, run string, order fleet.Command) error {
	if err := r.open(); err != nil {
		return err
	}
	return r.st.SendCommand(ctx, run, order)
}
