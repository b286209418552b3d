package config

// modeConflicts finds settings that do nothing in the chosen mode although the
// user would count on them. (It accepts settings that only tune something: one
// environment may serve several modes.)
func (vs *variables) modeConflicts(in *interpreter, mode Mode, graflow bool) {
	o, d := &vs.own, &vs.dropIn
	if graflow && mode != ModeRPC {
		in.complain(&o.Mode, "%s is %s, and --graflow goes with rpc only: it is an adapter that speaks the worker protocol; "+
			"for Graflow's own worker: sidecar run --mode supervise -- python -m graflow.worker.main", o.Mode.name(), mode)
	}
	if mode != ModeSupervise {
		if o.Replicas.given() {
			in.complain(&o.Replicas, "%s goes with --mode supervise only: in mode %s %s says how many tasks run at once",
				o.Replicas.name(), mode, d.MaxConcurrentTasks.env)
		}
		return
	}
	if d.RedisAddrs.given() {
		in.complain(&d.RedisAddrs, "%s does not go with --mode supervise: workers are told the one address of a Redis", d.RedisAddrs.name())
	}
	for _, v := range []*value{&o.TaskTimeout, &o.QueueKey, &o.QueueSide, &o.MaxAttempts, &o.ResultTTL, &o.DeadLetterMax, &o.DeadLetterMaxAge, &o.SpoolDir} {
		if v.given() {
			in.complain(v, "%s does nothing with --mode supervise: the workers take and report their tasks themselves", v.name())
		}
	}
}
