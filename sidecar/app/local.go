package app

import (
	"context"
	"errors"
)

// runLocal is the stage of our own Redis, which goes last. When it dies by itself we stop.
func (a *App) runLocal(soft, hard context.Context) error {
	select {
	case <-soft.Done():
	case <-a.local.Done():
	}
	return errors.Join(a.local.Err(), a.local.Stop(hard))
}

func (a *App) stopLocal(ctx context.Context) {
	if a.local != nil {
		_ = a.local.Stop(ctx)
	}
}
