package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/logdocs"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis/acl"
)

// finding is what one look has shown.
type finding struct {
	Check  string `json:"check"`
	Status string `json:"status"` // ok, warning, bad, unknown
	Seen   string `json:"seen"`
	Remedy string `json:"remedy,omitempty"`
	Doc    string `json:"doc,omitempty"`
}

// What a finding can be. Only bad gives the exit status 1.
const (
	fine    = "ok"
	warning = "warning"
	bad     = "bad"
	unknown = "unknown"
)

// findings collects them.
type findings []finding

// checkID is the id of the section about a check.
func checkID(check string) string { return "doctor-" + check }

func (f *findings) add(check, status, remedy, format string, args ...any) {
	one := finding{Check: check, Status: status, Seen: fmt.Sprintf(format, args...)}
	if status != fine {
		one.Remedy, one.Doc = remedy, logdocs.Command(checkID(check))
	}
	*f = append(*f, one)
}

func doctorCommand(o Options) *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor [flags] [-- COMMAND [ARG…]]",
		Short: "Look for what is wrong with Redis, this machine and the worker",
		Long: `Looks at Redis (version, role, permissions, eviction, persistence, memory, clock), at
the key prefix, at the limits of this machine and, with a command after --, at the
worker: it is started and checked against the protocol, as sidecar worker test does.
Each finding comes with its remedy and the command that explains it.

Permissions are found by trying, on keys of its own that it removes. The status is 0,
or 1 if something is bad.`,
		Example: "  sidecar doctor\n  sidecar doctor --redis-host redis -- ./my-worker",
	}
	loader := config.NewLoader()
	loader.AddClientFlags(c.Flags())
	format := outputFlag(c)
	var user string
	var graflow bool
	c.Flags().StringVar(&user, "acl", "", "print the command that makes a Redis `user` with the permissions that are needed, and look at nothing")
	c.Flags().BoolVar(&graflow, "acl-graflow", false, "with --acl: include what Graflow's own code in a worker needs")
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) > 0 && c.ArgsLenAtDash() != 0 {
			return wrongUse("the worker's command comes after --, as in: sidecar doctor -- ./worker")
		}
		if user != "" {
			return printACL(c, loader, user, graflow)
		}
		s, err := open(c, loader, *format)
		if err != nil {
			return err
		}
		defer func() { _ = s.st.Close() }()
		ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
		defer cancel()
		var f findings
		s.lookAtRedis(ctx, &f)
		lookAtLimits(&f, s.cfg.Slots)
		if len(args) > 0 {
			lookAtWorker(ctx, &f, o, args)
		}
		return s.report(f)
	}
	return c
}

// printACL needs no Redis: an administrator of Redis may make the user elsewhere.
func printACL(c *cobra.Command, loader *config.Loader, user string, graflow bool) error {
	s, err := loader.LoadClient()
	if err != nil {
		return err
	}
	needs := acl.Needs{Prefix: s.KeyPrefix, Queue: s.QueueKey, Graflow: graflow, Cluster: s.Redis.Cluster}
	_, err = fmt.Fprintln(c.OutOrStdout(), acl.SetUser(user, needs))
	return err
}

func (s *session) report(f findings) error {
	count := 0
	for _, one := range f {
		if one.Status == bad {
			count++
		}
	}
	if s.out.json {
		if err := s.out.object([]finding(f), false); err != nil {
			return err
		}
	} else {
		colors := map[string]string{fine: "32", warning: "33", unknown: "33", bad: "31"}
		for _, one := range f {
			fmt.Fprintf(s.out.w, "%s %-12s %s\n", s.out.paint(colors[one.Status], fmt.Sprintf("%-8s", one.Status)), one.Check, clean(one.Seen))
			if one.Remedy != "" {
				fmt.Fprintf(s.out.w, "%22s%s (%s)\n", "", clean(one.Remedy), one.Doc)
			}
		}
	}
	if count > 0 {
		return no("%d of %d checks found something that must be seen to", count, len(f))
	}
	return nil
}

// lookAtRedis goes on after a check that could not be made: there is more to see.
func (s *session) lookAtRedis(ctx context.Context, f *findings) {
	where := s.cfg.Redis.Address()
	if err := s.st.Ping(ctx); err != nil {
		remedy := "start it, or correct REDIS_URL; a firewall or a wrong port looks the same"
		switch {
		case redis.ClassName(err) == "no_master":
			remedy = "correct REDIS_SENTINEL_MASTER, or tell the sentinels of the master (SENTINEL MONITOR)"
		case redis.Classify(err) == redis.ClassFatal:
			remedy = "correct REDIS_USERNAME and REDIS_PASSWORD (or the URL's), or the database"
		}
		f.add("reach", bad, remedy, "%s: %v", where, err)
		return
	}
	f.add("reach", fine, "", "%s answers", where)
	info, err := s.st.Info(ctx)
	if err != nil {
		f.add("info", unknown, "allow INFO to this user (+info), or ask an administrator of Redis: version, role, eviction, persistence and memory cannot be seen", "%v", err)
	} else {
		lookAtServer(f, info, s.st.Tag() != "")
	}
	s.lookAtPermissions(ctx, f)
	s.lookAtClock(ctx, f)
	s.lookAtFormat(ctx, f)
	s.lookAtPrefix(ctx, f)
}

func (s *session) lookAtPermissions(ctx context.Context, f *findings) {
	tried, err := s.st.TryPermissions(ctx)
	if err != nil {
		f.add("permissions", unknown, "try again", "%v", err)
		return
	}
	var refused []string
	transient := false
	for _, p := range tried {
		if p.Err != nil {
			refused = append(refused, p.What+": "+p.Err.Error())
			transient = transient || redis.Classify(p.Err) != redis.ClassFatal
		}
	}
	if len(refused) == 0 {
		f.add("permissions", fine, "", "all %d kinds of commands are allowed", len(tried))
		return
	}
	remedy := "give this user the permissions that sidecar doctor --acl USER prints"
	if transient {
		remedy = "Redis takes no writes now (a replica, a full memory or a failed save): see the other findings"
	}
	f.add("permissions", bad, remedy, "%s", strings.Join(refused, "; "))
}

const (
	skewWarning = time.Second
	skewBad     = 30 * time.Second
)

func (s *session) lookAtClock(ctx context.Context, f *findings) {
	before := time.Now()
	at, err := s.st.Time(ctx)
	if err != nil {
		f.add("clock", unknown, "allow TIME to this user (+time)", "%v", err)
		return
	}
	// The reply was written somewhere in between.
	skew := at.Sub(before.Add(time.Since(before) / 2)).Round(time.Millisecond)
	const remedy = "run NTP on both machines: ages of records are wrong by that much (leases and delays go by Redis' clock alone)"
	switch d := skew.Abs(); {
	case d > skewBad:
		f.add("clock", bad, remedy, "Redis' clock is %v from ours", skew)
	case d > skewWarning:
		f.add("clock", warning, remedy, "Redis' clock is %v from ours", skew)
	default:
		f.add("clock", fine, "", "Redis' clock is %v from ours", skew)
	}
}

func (s *session) lookAtFormat(ctx context.Context, f *findings) {
	stored, known, err := s.st.Format(ctx)
	switch {
	case err != nil:
		f.add("format", unknown, "see permissions", "%v", err)
	case stored == 0:
		f.add("format", bad, "a running sidecar repairs it within a second; where none runs, see the section about its repair", "%s:sidecar:format holds no format", s.cfg.KeyPrefix)
	case stored > known:
		f.add("format", bad, "use the version of the sidecars that run", "the keys have format %d, and this version knows 1 to %d", stored, known)
	default:
		f.add("format", fine, "", "the keys have format %d, and this version knows 1 to %d", stored, known)
	}
}

func (s *session) lookAtPrefix(ctx context.Context, f *findings) {
	wrong, err := s.st.WrongTypes(ctx)
	if err != nil {
		f.add("prefix", unknown, "see permissions", "%v", err)
		return
	}
	if len(wrong) > 0 {
		f.add("prefix", bad, "something else uses this prefix: give one of them another (REDIS_KEY_PREFIX)", "%s", strings.Join(wrong, "; "))
		return
	}
	q, err := s.st.Overview(ctx)
	runs, err2 := s.st.Fleet(ctx)
	if err := errors.Join(err, err2); err != nil {
		f.add("prefix", unknown, "see permissions", "%v", err)
		return
	}
	seen := fmt.Sprintf("%s: %d in the queue, %d in flight, %d dead letters, %d sidecars", s.cfg.KeyPrefix, q.Depth, q.InFlight, q.Dead, len(runs))
	switch {
	case q.Paused:
		f.add("prefix", warning, "sidecar resume --all ends the pause", "%s; all are paused", seen)
	case q.Depth > 0 && len(runs) == 0:
		f.add("prefix", warning, "start a sidecar with this prefix, or look for tasks under the prefix of those that run", "%s; no sidecar takes them", seen)
	default:
		f.add("prefix", fine, "", "%s", seen)
	}
}

func lookAtWorker(ctx context.Context, f *findings, o Options, command []string) {
	name := strings.Join(command, " ")
	passed, failed, err := o.TestWorker(ctx, command)
	switch {
	case err != nil:
		f.add("worker", bad, "run it by hand and type {} into it; sidecar worker test -- "+name+" shows the whole dialogue", "%s: %v", name, err)
	case len(failed) > 0:
		f.add("worker", bad, "sidecar worker test -- "+name+" shows the whole dialogue", "%s: %d of %d checks failed: %s", name, len(failed), len(failed)+passed, strings.Join(failed, "; "))
	default:
		f.add("worker", fine, "", "%s: all %d checks passed", name, passed)
	}
}
