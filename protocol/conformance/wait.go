package conformance

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// slack is what the kit allows beyond a rule's own time: on a busy machine its
// own clock is late.
const slack = 500 * time.Millisecond

// slowEnough is how long a worker with running tasks may take to answer what it
// has to answer at once, before that counts as waiting for the tasks.
const slowEnough = time.Second

// until waits until done says so, or fails after d or once the worker is gone.
// done is called with the peer's state locked.
func (t *talk) until(d time.Duration, what string, done func() bool) error {
	p := t.peer
	timer := time.NewTimer(d)
	defer timer.Stop()
	exited, read := p.exited, (<-chan struct{})(nil)
	for {
		p.mu.Lock()
		ok, changed := done(), p.changed
		p.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-exited:
			exited, read = nil, p.read // its last words may still be in the pipe
		case <-read:
			p.mu.Lock()
			ok := done()
			p.mu.Unlock()
			if ok {
				return nil
			}
			return p.gone("")
		case <-timer.C:
			return fmt.Errorf("no %s within %v (--patience)", what, d)
		case <-t.ctx.Done():
			return t.ctx.Err()
		}
	}
}

// await waits for an answer or a notification.
func (t *talk) await(s step) error {
	within := s.within
	if within == 0 {
		within = t.Patience
	}
	if strings.HasPrefix(s.args[0], "$/") {
		return t.until(within, s.args[0], func() bool { return slices.Contains(t.peer.notices, s.args[0]) })
	}
	id := s.args[0]
	var got answer
	t.peer.mu.Lock()
	r := t.peer.sent[id]
	t.peer.mu.Unlock()
	if r == nil {
		return undone("what it is about was not sent, see above")
	}
	err := t.until(within, "answer to "+r.method, func() bool {
		at := slices.IndexFunc(t.peer.answers, func(a answer) bool { return a.id == id })
		if at >= 0 {
			got, t.heard = t.peer.answers[at], max(t.heard, at)
		}
		return at >= 0
	})
	if err != nil {
		return err
	}
	if id == "1" && got.msg.Error == nil {
		t.greeted(got.msg.Result)
	}
	_, alternatives, _ := strings.Cut(s.rest, " ")
	if why := matches(got.msg, alternatives); why != "" {
		return errors.New(why)
	}
	return nil
}

// pause waits for d, or until the worker is gone.
func (t *talk) pause(d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.peer.exited:
	case <-t.ctx.Done():
		return t.ctx.Err()
	}
	return nil
}

// of gives the answers to a request, in order, and their places among all.
func (t *talk) of(id string) (answers []answer, places []int) {
	t.peer.mu.Lock()
	defer t.peer.mu.Unlock()
	for i, a := range t.peer.answers {
		if a.id == id {
			answers, places = append(answers, a), append(places, i)
		}
	}
	return answers, places
}

// busy checks that the slow tasks still run: else there is nothing to see.
func (t *talk) busy() error {
	for i := range t.concurrency {
		if answers, _ := t.of(fmt.Sprint(firstTask + i)); len(answers) > 0 {
			return undone("the slow tasks had ended by then; --slow-record (Records.Slow) must take two seconds or more")
		}
	}
	return nil
}

// idle checks that the slow tasks have been answered: else a worker has a reason
// to be there still.
func (t *talk) idle() error {
	for i := range t.concurrency {
		if answers, _ := t.of(fmt.Sprint(firstTask + i)); len(answers) == 0 {
			return undone("the slow tasks had not ended, see above")
		}
	}
	return nil
}

// waits checks that a request is not answered while the slow tasks run.
func (t *talk) waits(id string) error {
	early := t.count(id, 0, "it was answered")
	if err := t.busy(); err != nil {
		return err
	}
	return early
}

// open checks that what was awaited came while a slow task ran. It did not if the
// task was answered first, long after the question; else the record was too quick
// to show anything, or the machine too busy.
func (t *talk) open(id string) error {
	answers, places := t.of(id)
	if len(answers) == 0 || places[0] > t.heard {
		return nil
	}
	late := answers[0].at.Sub(t.asked)
	if late < slowEnough {
		return t.busy()
	}
	return fmt.Errorf("the answer came only after the running task had ended, %v later", late.Round(10*time.Millisecond))
}

// count checks how many answers a request got.
func (t *talk) count(id string, most int, otherwise string) error {
	if answers, _ := t.of(id); len(answers) > most {
		m := answers[most].msg
		if m.Error != nil {
			return fmt.Errorf("%s: error %d, %s", otherwise, int(m.Error.Code), clip(m.Error.Message))
		}
		return fmt.Errorf("%s: %s", otherwise, clip(m.Result))
	}
	return nil
}

// refused checks that a request was not carried out.
func (t *talk) refused(id string) error {
	answers, _ := t.of(id)
	for _, a := range answers {
		if a.msg.Error == nil {
			return fmt.Errorf("it was answered with %s", clip(a.msg.Result))
		}
	}
	return nil
}

// order checks that the answers came in this order.
func (t *talk) order(ids []string) error {
	last := -1
	for _, id := range ids {
		_, places := t.of(id)
		if len(places) == 0 {
			return fmt.Errorf("no answer to %s", id)
		}
		if places[0] < last {
			return fmt.Errorf("%s was answered before the one sent before it", id)
		}
		last = places[0]
	}
	return nil
}

// exit waits for the worker's end.
func (t *talk) exit(s step) error {
	within := s.within
	if within == 0 {
		within = t.Patience
	}
	timer := time.NewTimer(within + slack)
	defer timer.Stop()
	select {
	case <-t.peer.exited:
	case <-timer.C:
		return fmt.Errorf("it still ran %v later", within)
	case <-t.ctx.Done():
		return t.ctx.Err()
	}
	if state := t.peer.cmd.ProcessState; len(s.args) > 0 && fmt.Sprint(state.ExitCode()) != s.args[0] {
		return errors.New("it " + fate(state))
	}
	return nil
}
