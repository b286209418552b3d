package explore

import (
	"strings"
	"testing"
)

// TestBrokenScripts explores with scripts that have a mistake, and demands a violation.
func TestBrokenScripts(t *testing.T) {
	for _, b := range []struct {
		name  string
		edits [][3]string
		scope Scope
		want  string // a part of the violation
	}{
		{
			"report without the in-flight check",
			[][3]string{{"report", "  if not found then\n", "  if false then\n"}},
			Scope{Budget: Budget{LostReply: 1, Expiry: 1}},
			"",
		},
		{
			"report that leaves the record in flight",
			[][3]string{{"report", "in_parts(ended, function(...) redis.call('HDEL', INFLIGHT, ...) end)\n", ""}},
			Scope{},
			"",
		},
		{
			"report that does not count by sets",
			[][3]string{{"report", "      known[n] = known[n] or is == 1\n", ""}, {"requeue", "  elseif state ~= 'waiting' and not FORCED then", "  elseif false then"}, {"requeue", "  if state == 'revocable' then", "  if false then"}},
			Scope{Budget: Budget{DeadEnd: 1, Requeue: 1}},
			"",
		},
		{
			"release that does not remove",
			[][3]string{{"release", "      redis.call('HDEL', INFLIGHT, delivery)\n", ""}},
			Scope{Budget: Budget{Return: 1}},
			"places",
		},
		{
			"release without the in-flight check",
			[][3]string{{"release", "  if record then\n", "  record = record or '{\"task_id\": \"t0\"}'\n  if record then\n"}},
			Scope{Budget: Budget{Return: 1, LostReply: 1}},
			"",
		},
		{
			"delay that does not remove",
			[][3]string{{"delay", "    redis.call('HDEL', INFLIGHT, delivery)\n", ""}},
			Scope{Budget: Budget{Deferral: 1}},
			"places",
		},
		{
			"tick that promotes twice",
			[][3]string{{"tick", "  redis.call('HDEL', DELAYED_RECORDS, due[i])\n", ""}, {"tick", "  redis.call('ZREM', DELAYED, due[i])\n", ""}},
			Scope{Budget: Budget{Deferral: 1}},
			"places",
		},
		{
			"tick that never promotes",
			[][3]string{{"tick", "local due = redis.call('ZRANGEBYSCORE', DELAYED, '-inf', NOW, 'LIMIT', 0, most)", "local due = {}"}},
			Scope{Budget: Budget{Deferral: 1}},
			"not every record can end",
		},
		{
			"reap of a run that is still a member",
			[][3]string{{"reap", "if member(VICTIM) then\n", "if false then\n"}, {"retire", "end_run(VICTIM, MODE, math.max(in_flight, before))\n", ""}},
			Scope{Budget: Budget{Expiry: 1}},
			"",
		},
		{
			"retire of a run with a lease",
			[][3]string{{"retire", "    return 0\n", "    -- return 0\n"}},
			Scope{Budget: Budget{Death: 1, Expiry: 1}},
			"",
		},
		{
			"reap that returns no record",
			[][3]string{{"reap", "  else\n    requeue(record)\n", "  else\n"}},
			Scope{Budget: Budget{Death: 1}},
			"lost",
		},
		{
			"reap that forgets the inbox",
			[][3]string{{"reap", "while has_inbox and not stop do", "while false do"}, {"reap", "if (not has_inbox or redis.call('EXISTS', INBOX) == 0) and", "if"}, {"tick", "    while has_inbox and drained < most and bytes < max_bytes do", "    while false do"}},
			Scope{Records: 1, Batch: 1, Budget: Budget{Death: 1, Arrival: 1}},
			"not every record can end",
		},
		{
			"claim of a run that is no member",
			[][3]string{{"claiming", "if not member(RUN) then\n", "if false then\n"}},
			Scope{Budget: Budget{Expiry: 1}},
			"is no member",
		},
		{
			"claim that is made twice",
			[][3]string{{"claiming", "  if meta[1] == ARGV[5] then\n", "  if false then\n"}},
			Scope{Budget: Budget{LostReply: 1}},
			"not every record can end",
		},
		{
			"claim that the network delivers late",
			[][3]string{{"claiming", "  if (tonumber(meta[5]) or 0) >= tonumber(ARGV[5]) then\n", "  if false then\n"}},
			Scope{Sidecars: 1, Records: 3, Batch: 1, Budget: Budget{Late: 1}},
			"not every record can end",
		},
		{
			"requeue that does not take back the count",
			[][3]string{{"requeue", "    redis.call('DECR', barrier)\n", ""}},
			Scope{Budget: Budget{DeadEnd: 1, Requeue: 1}},
			"counter",
		},
		{
			"requeue that leaves the letter",
			[][3]string{{"requeue", "redis.call('DEL', ENTRY)\n", ""}},
			Scope{Budget: Budget{DeadEnd: 1, Requeue: 1}},
			"places",
		},
		{
			"reconcile of a claim that is outstanding",
			[][3]string{{"reconcile", "if not known[delivery] and (seq <= seen or seq > 2 ^ 40) then", "if not known[delivery] then"}},
			Scope{Budget: Budget{LateReply: 1}},
			"not in flight",
		},
		{
			"an attempt that a clean end costs",
			[][3]string{{"reap", "local costs = ended[1] ~= 'clean'", "local costs = true"}},
			Scope{Budget: Budget{Leaving: 1}},
			"",
		},
		{
			"tick that takes a member for dead at the first look",
			[][3]string{{"tick", "        if RAW - from >= tonumber(ARGV[14]) then\n", "        if true then\n"}},
			Scope{Records: 1, Batch: 1, Counted: true, Budget: Budget{Expiry: 1}},
			"ms after the end of its lease",
		},
		{
			"tick that counts what passed without a look",
			[][3]string{{"tick", "  if age >= 0 and age <= tonumber(ARGV[13]) then\n", "  if age >= 0 then\n"}},
			Scope{Records: 1, Batch: 1, Counted: true, Budget: Budget{Expiry: 1}},
			"interval without looks",
		},
		{
			"tick without a grace after an outage",
			[][3]string{{"tick", "since[run] or RAW + grace", "since[run] or RAW"}},
			Scope{Records: 1, Batch: 1, Counted: true, Budget: Budget{Expiry: 1}},
			"interval without looks",
		},
		{
			"tick that remembers an absence that is over",
			[][3]string{{"tick", "  redis.call('DEL', WATCH)\n", ""}},
			Scope{Records: 1, Batch: 1, Counted: true, Budget: Budget{Expiry: 2}},
			"ms after the end of its lease",
		},
		{
			"tick that counts from zero at each look",
			[][3]string{{"tick", "local from = since[run] or RAW + grace", "local from = RAW + grace"}},
			Scope{Records: 1, Batch: 1, Counted: true, Budget: Budget{Death: 1}},
			"not every record can end",
		},
	} {
		t.Run(strings.ReplaceAll(b.name, " ", "-"), func(t *testing.T) {
			b.scope.Most = 20_000
			b.scope.Name, b.scope.Attempts = b.name, 2
			if b.scope.Sidecars == 0 {
				b.scope.Sidecars = 2
			}
			if b.scope.Records == 0 {
				b.scope.Records, b.scope.Batch = 2, 2
			}
			r, err := Explore(b.scope, sources(t, b.edits...))
			if err != nil {
				t.Fatal(err)
			}
			if r.Violation == "" || !strings.Contains(r.Violation, b.want) {
				t.Errorf("violation %q in %d states, want one with %q", r.Violation, r.States, b.want)
			}
			r.Print(t.Output())
		})
	}
}
