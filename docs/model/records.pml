/*
 * records.pml models how two sidecars share a queue in Redis: claim, lease, report and
 * reap, with the faults that these have to bear. README.md beside it maps each step to
 * its script and says what the model leaves out. `make model` checks it.
 *
 * Each atomic block is one Lua script or one Redis command, or a step of a sidecar
 * between two calls. A comment "step: NAME" stands in front of each.
 *
 * A deliberate mistake can be switched on in a step: IS(REPORT_UNCHECKED), for one. README.md
 * names the property that each one violates.
 */

#define SIDECARS 2
#define RECORDS  2
#define FAULTS   2             /* of any sort, in one history, at most */
#define RUNS     4             /* SIDECARS + FAULTS: a fault ends one run at most */
#define CLAIMS   4             /* claims of one run that take a record */
#define ADOPTED  2             /* records that one run adopts */
#define WIDTH    6             /* CLAIMS + ADOPTED */
#define ATTEMPTS 2             /* losses that end a record */
#define NONE     255

/* Deliberate mistakes. The program that the checker makes of the model takes one of them
   from its environment (MISTAKE); 0 is none. */
#define REPORT_UNCHECKED       1  /* report.lua ends a delivery that is not in flight */
#define COUNT_BEFORE_CHECK     2  /* report.lua counts before it looks */
#define COUNT_WITHOUT_SET      3  /* report.lua does not look whether the task was counted */
#define RELEASE_KEEPS_DELIVERY 4  /* release.lua leaves the delivery in flight */
#define CLAIM_NOT_IDEMPOTENT   5  /* a repeated claim takes another record */
#define CLAIM_EMPTY_TURN_AGAIN 6  /* a claim takes a record in a turn that found none before */
#define CLAIM_OVERTAKES        7  /* a claim that arrives after a later one takes a record */
#define CLAIM_BY_FENCED_RUN    8  /* claim.lua does not ask for membership */
#define RENEW_BY_FENCED_RUN    9  /* tick.lua does not ask for membership */
#define REAP_AT_FIRST_LOOK     10 /* one check that finds no lease is enough */
#define RETIRE_UNCHECKED       11 /* retire.lua does not look at the lease again */
#define REAP_KEEPS_MEMBER      12 /* the records are requeued before the run is ended */
#define REAP_IN_TWO_STEPS      13 /* a record is removed in one call and pushed in the next */
#define ADOPT_BY_FENCED_RUN    14 /* reap.lua does not ask whether the caller is a member */
#define REAP_NOT_RESUMED       15 /* no sidecar takes over from a reaper that dies */
#define INBOX_UNDRAINED        16 /* the inboxes of ended runs are emptied once only */
#define NOT_RECONCILED         17 /* unknown deliveries stay in flight */
#define REQUEUE_KEEPS_COUNTED  18 /* requeue.lua lowers the counter and leaves the set */
byte mistake;
#define IS(name) (mistake == name)

/* A producer that repeats its push enqueues one task twice (environment: REPEATED_PUSH). */
bit repeated_push;
#define NAME(record) (repeated_push -> 0 : record)
#define NAMES        (RECORDS - repeated_push)
#define LOOKS        (IS(REAP_AT_FIRST_LOOK) -> 1 : 3)

/* ---- Redis ---- */

byte queue[RECORDS];           /* P:queue: the number of copies of each record */
byte inbox[RUNS * RECORDS];    /* P:sidecar:inbox:{run} */
byte flight[RUNS * WIDTH];     /* P:sidecar:inflight:{run}: 0, or the record + 1 */
byte delayed[RECORDS];         /* P:sidecar:delayed */
byte letters[RECORDS];         /* P:sidecar:dead */
byte attempts[RECORDS];        /* P:sidecar:attempts */
bit  counted[RECORDS];          /* P:sidecar:counted:{day}:{group} */
byte counter;                  /* P:barrier:{group} */
bit  member[RUNS];             /* P:sidecar:runs */
bit  alive[RUNS];              /* P:sidecar:alive:{run} */
bit  gone[RUNS];               /* P:sidecar:gone */
bit  clean[RUNS];              /* P:sidecar:meta:{run}: ended */
byte last[RUNS];               /* P:sidecar:meta:{run}: seq */
byte adoptions[RUNS];          /* P:sidecar:meta:{run}: adopted */
bit  turned[RUNS];             /* P:sidecar:meta:{run}: turn is that of the present claim */
bit  took[RUNS];               /* P:sidecar:meta:{run}: claim is turn */
byte looks[RUNS];              /* P:sidecar:watch: checks in a row that found no lease */

/* ---- Sidecars ---- */

mtype = { idle, claiming, running, reporting, refused };
mtype = { starting, ticking, retiring, reaping, leaving, emptying };
mtype = { succeeded, returned, retried, lost, exhausted };
mtype = { claim, move, report, retire, reap };

bit   frozen[SIDECARS];
bit   removed[SIDECARS];       /* it never starts again: the other one goes on */
byte  current[SIDECARS];       /* the registered run, or NONE */
byte  age[SIDECARS];           /* checks of the members since its last renewal */
mtype pipeline[SIDECARS];
mtype lease[SIDECARS];
byte  task[SIDECARS];          /* the delivery, an index of flight, or NONE */
byte  record[SIDECARS];        /* its record */
mtype outcome[SIDECARS];
bit   repeated[SIDECARS];      /* an earlier call of the report may have been applied */
byte  seen[SIDECARS];          /* highest sequence number that the run has claimed */
byte  known[SIDECARS];         /* set of the adoptions that the run knows */
byte  victim[SIDECARS];        /* the run that this one reaps */
byte  taken[SIDECARS];         /* only in the mistake REAP_IN_TWO_STEPS: a record + 1 */

/* One call that its sender has given up and that Redis has not executed yet. */
mtype late;
byte  late_run;                /* its sender */
byte  late_of;                 /* delivery or victim */
byte  late_record;
mtype late_outcome;
bit   late_old;                /* the sender of the claim has begun its next turn */

byte faults;
byte kinds;

/* ---- Properties ---- */

byte ended[RECORDS];           /* reports of success that have ended the record */
bit  applied[RUNS * WIDTH];    /* a call of the delivery's own run has ended it */
bit  excused[RUNS];            /* the run has frozen, died or left since its renewal */
byte owner[RUNS];              /* its sidecar */

/* The checker prints the name of the variable that an assertion finds to be false. */
bit one_place = 1, counted_once = 1, fenced_run_is_inert = 1, reaped_run_was_absent = 1;
bit verdict_is_true = 1, within_slots = 1;
#define PROPERTY(name, condition) name = (condition); assert(name)

ltl every_record_ends { <> [] (ended[0] + letters[0] > 0 && ended[1] + letters[1] > 0 && counter == NAMES) }

/* Scratch variables of the steps: 0 between them. */
byte i, j, n, d, x;
bit  ok;

#define AT(run, seq)  ((run) * WIDTH + (seq) - 1)
#define ADOPTION(run, number) ((run) * WIDTH + CLAIMS + (number) - 1)
#define RUN_OF(d)     ((d) / WIDTH)
#define SEQUENCE(d)   ((d) % WIDTH + 1)
#define INBOX(run, rec) inbox[(run) * RECORDS + (rec)]
#define LIVE(s)       (!removed[s] && !frozen[s])
#define HEALTHY(s)    (LIVE(s) && current[s] != NONE && lease[s] != leaving && lease[s] != emptying)
#define WAITING(r)    (queue[0] + queue[1] + INBOX(r, 0) + INBOX(r, 1) > 0)

/* The sorts of faults. The environment can allow some of them only (KINDS, their sum). */
#define CALL   1               /* a call of the pipeline: reply lost, or executed late */
#define TASK   2               /* a task is returned, delayed, or lost with its worker */
#define CHORE  4               /* a call of the lease: reply lost, or executed late */
#define FREEZE 8
#define DIE    16
#define LEAVE  32
#define OUTAGE 64
#define OPERATOR 128
#define MAY(sort)     (faults > 0 && ((kinds / sort) % 2 == 1))

/* clear ends a step. */
inline clear() {
  d_step { i = 0; j = 0; n = 0; d = 0; x = 0; ok = 0 }
}

/* ---- Scripts ---- */

/* take moves a record into the in-flight hash: from the inbox first. */
inline take(r) {
  if
  :: INBOX(r, 0) > 0 -> INBOX(r, 0)--; x = 1
  :: INBOX(r, 1) > 0 -> INBOX(r, 1)--; x = 2
  :: INBOX(r, 0) + INBOX(r, 1) == 0 && queue[0] > 0 -> queue[0]--; x = 1
  :: INBOX(r, 0) + INBOX(r, 1) == 0 && queue[1] > 0 -> queue[1]--; x = 2
  :: !WAITING(r) -> x = 0
  fi;
  if
  :: x > 0 ->
    PROPERTY(fenced_run_is_inert, member[r]);
    last[r]++;
    assert(last[r] <= CLAIMS);
    flight[AT(r, last[r])] = x;
    took[r] = 1;
    n = 0;
    for (i : 1 .. CLAIMS) { n = n + (flight[AT(r, i)] > 0) }
    PROPERTY(within_slots, n == 1)
  :: else
  fi
}

/* claim_script sets ok if the run is a member, and d to the delivery that the reply has. */
inline claim_script(r, old) {
  d = NONE;
  ok = member[r] || IS(CLAIM_BY_FENCED_RUN);
  if
  :: !ok
  :: ok && old && IS(CLAIM_OVERTAKES) -> take(r)
  :: ok && old && !IS(CLAIM_OVERTAKES)
  :: ok && !old && !turned[r] ->
    turned[r] = 1;
    took[r] = 0;
    take(r);
    if
    :: took[r] -> d = AT(r, last[r])
    :: else
    fi
  :: ok && !old && turned[r] ->
    if
    :: IS(CLAIM_NOT_IDEMPOTENT) || (IS(CLAIM_EMPTY_TURN_AGAIN) && !took[r]) -> take(r)
    :: else
    fi;
    if
    :: took[r] && flight[AT(r, last[r])] > 0 -> d = AT(r, last[r])
    :: else
    fi
  fi
}

/* count_script is the part of report.lua that advances the barrier of the group. */
inline count_script(rec) {
  if
  :: !counted[NAME(rec)] || IS(COUNT_WITHOUT_SET) -> counted[NAME(rec)] = 1; counter++
  :: else
  fi
}

/* report_script ends or returns delivery del and sets ok if it was in flight. */
inline report_script(del, rec, out) {
  ok = flight[del] > 0;
  ok = ok || (IS(REPORT_UNCHECKED) && out == succeeded);
  if
  :: IS(COUNT_BEFORE_CHECK) && out == succeeded && !ok -> counter++
  :: else
  fi;
  if
  :: ok ->
    if
    :: out == succeeded || out == exhausted ->
      count_script(rec);
      attempts[rec] = 0;
      if
      :: out == succeeded -> ended[rec]++
      :: else -> letters[rec]++
      fi
    :: out == returned -> queue[rec]++
    :: out == lost -> queue[rec]++; attempts[rec]++
    :: out == retried -> delayed[rec]++
    fi;
    if
    :: out == returned && IS(RELEASE_KEEPS_DELIVERY)
    :: else -> flight[del] = 0
    fi;
    applied[del] = 1
  :: else
  fi
}

/* retire_script ends run v. by is its caller. */
inline retire_script(by, v) {
  if
  :: IS(REAP_KEEPS_MEMBER) || !member[by] || !member[v] || (alive[v] && !IS(RETIRE_UNCHECKED))
  :: else ->
    PROPERTY(reaped_run_was_absent, excused[v]);
    member[v] = 0; alive[v] = 0; gone[v] = 1; looks[v] = 0; excused[v] = 0; turned[v] = 0; took[v] = 0
  fi
}

/* reap_script requeues one record of the ended run v. It sets ok if nothing is left to do
   for this caller, and d to the delivery that the caller has adopted. */
inline reap_script(by, v) {
  d_step {
  d = NONE;
  x = 0;
  if
  :: member[v] && !IS(REAP_KEEPS_MEMBER) -> ok = 1
  :: !member[v] && !clean[v] && !member[by] && !IS(ADOPT_BY_FENCED_RUN) -> ok = 1
  :: else ->
    if
    :: INBOX(v, 0) > 0 -> INBOX(v, 0)--; queue[0]++
    :: INBOX(v, 1) > 0 -> INBOX(v, 1)--; queue[1]++
    :: else ->
      for (i : 0 .. WIDTH - 1) {
        if
        :: x == 0 && flight[v * WIDTH + i] > 0 ->
          x = flight[v * WIDTH + i];
          flight[v * WIDTH + i] = 0
        :: else
        fi
      }
      if
      :: x > 0 ->
        if
        :: !clean[v] && attempts[x - 1] < ATTEMPTS -> attempts[x - 1]++
        :: else
        fi;
        if
        :: !clean[v] && attempts[x - 1] == ATTEMPTS ->
          PROPERTY(fenced_run_is_inert, member[by]);
          adoptions[by]++;
          assert(adoptions[by] <= ADOPTED);
          d = ADOPTION(by, adoptions[by]);
          flight[d] = x
        :: else -> queue[x - 1]++
        fi
      :: else
      fi
    fi;
    n = INBOX(v, 0) + INBOX(v, 1);
    for (i : 0 .. WIDTH - 1) { n = n + flight[v * WIDTH + i] }
    ok = (n == 0)
  fi
  }
}

/* check_members is the part of tick.lua that looks for dead runs. A healthy sidecar renews
   its lease before a third check of the others. */
inline check_members(s) {
  ok = 1;
  for (i : 0 .. SIDECARS - 1) {
    if
    :: i != s && HEALTHY(i) && age[i] == 2 -> ok = 0
    :: else
    fi
  }
  x = 0; /* a lease is missing */
  for (i : 0 .. RUNS - 1) {
    if
    :: ok && member[i] && !alive[i] ->
      x = 1;
      if
      :: looks[i] < LOOKS -> looks[i]++
      :: else
      fi
    :: ok && !(member[i] && !alive[i]) -> looks[i] = 0
    :: else
    fi
  }
  for (i : 0 .. SIDECARS - 1) {
    if
    :: x && i != s && HEALTHY(i) -> age[i]++
    :: ok && !x -> age[i] = 0 /* a check that finds all leases leaves nothing behind */
    :: else
    fi
  }
}

/* drain_inboxes is the part of tick.lua that empties the inboxes of ended runs. */
inline drain_inboxes() {
  for (i : 0 .. RUNS - 1) {
    if
    :: gone[i] && !IS(INBOX_UNDRAINED) -> queue[0] = queue[0] + INBOX(i, 0); INBOX(i, 0) = 0; queue[1] = queue[1] + INBOX(i, 1); INBOX(i, 1) = 0
    :: else
    fi
  }
}

#define ADOPTION_KNOWN(s, j) ((j == CLAIMS + 1 && known[s] % 2 == 1) || (j == CLAIMS + 2 && known[s] >= 2))

/* reconcile is reconcile.lua. */
inline reconcile(s) {
  for (j : 1 .. WIDTH) {
    d = AT(current[s], j);
    ok = flight[d] > 0 && d != task[s] && !ADOPTION_KNOWN(s, j) && !IS(NOT_RECONCILED);
    ok = ok && (j <= seen[s] || j > CLAIMS);
    if
    :: ok -> queue[flight[d] - 1]++; flight[d] = 0
    :: else
    fi
  }
}

/* left sets n to the records in flight of run r. */
inline left(r) {
  n = 0;
  for (j : 0 .. WIDTH - 1) { n = n + (flight[(r) * WIDTH + j] > 0) }
}

/* ---- Sidecars ---- */

/* renumber lets a run count from the beginning again when nothing has one of its numbers
   any more: only the order of the numbers matters, and the states are fewer. */
inline renumber(s) {
  d_step {
    if
    :: current[s] != NONE && late_run != current[s] ->
      left(current[s]);
      if
      :: n == 0 -> last[current[s]] = 0; adoptions[current[s]] = 0; seen[s] = 0
      :: else
      fi;
      n = 0; j = 0
    :: else
    fi
  }
}

/* settle drops the task of a sidecar: Redis has answered its outcome, or its run is over. */
inline settle(s) {
  if
  :: task[s] != NONE -> applied[task[s]] = 0
  :: else
  fi;
  renumber(s);
  task[s] = NONE; record[s] = 0; outcome[s] = 0; repeated[s] = 0; pipeline[s] = idle
}

/* forget_run drops all that a sidecar knows of its run. */
inline forget_run(s) {
  settle(s);
  current[s] = NONE; known[s] = 0; seen[s] = 0; victim[s] = 0; taken[s] = 0; age[s] = 0; lease[s] = starting
}

/* begin_turn begins a new claim. A late claim of the turn before is overtaken by it. */
inline begin_turn(s) {
  turned[current[s]] = 0;
  if
  :: late == claim && late_run == current[s] && IS(CLAIM_OVERTAKES) -> late_old = 1
  :: late == claim && late_run == current[s] && !IS(CLAIM_OVERTAKES) -> late = 0; late_run = NONE
  :: else
  fi
}

/* handle_claimed is the reply to a claim. */
inline handle_claimed(s) {
  if
  :: !ok -> pipeline[s] = refused
  :: ok && d == NONE -> pipeline[s] = idle
  :: ok && d != NONE ->
    pipeline[s] = running; task[s] = d; record[s] = flight[d] - 1; seen[s] = SEQUENCE(d)
  fi;
  if
  :: late == claim && late_run == current[s]
  :: else -> turned[current[s]] = 0; took[current[s]] = 0 /* nothing asks for them any more */
  fi
}

/* handle_verdict is the reply to a report. */
inline handle_verdict(s) {
  if
  :: !ok && member[current[s]] -> PROPERTY(verdict_is_true, repeated[s] && applied[task[s]])
  :: else
  fi;
  settle(s)
}

/* choose is the end of the worker's task. */
inline choose(s) {
  if
  :: pipeline[s] == reporting
  :: pipeline[s] == running -> outcome[s] = succeeded
  :: pipeline[s] == running && MAY(TASK) -> faults--; outcome[s] = returned
  :: pipeline[s] == running && MAY(TASK) -> faults--; outcome[s] = retried
  :: pipeline[s] == running && MAY(TASK) -> faults--; outcome[s] = lost
  fi
}

#define STAYS(s)      (lease[s] != leaving && lease[s] != emptying)
#define MAY_CLAIM(s)  (LIVE(s) && pipeline[s] == idle && current[s] != NONE && known[s] == 0 && STAYS(s))
#define MAY_REPORT(s) (LIVE(s) && (pipeline[s] == running || pipeline[s] == reporting))

/* Pipeline is claim, dispatch, worker and report of one sidecar with one slot. */
proctype Pipeline(byte s) {
  do
  /* step: wait */
  :: atomic { MAY_CLAIM(s) && queue[0] + queue[1] > 0 ->
      if
      :: queue[0] > 0 -> queue[0]--; INBOX(current[s], 0)++
      :: queue[1] > 0 -> queue[1]--; INBOX(current[s], 1)++
      :: late == 0 && MAY(CALL) -> faults--; late = move; late_run = current[s]
      fi;
      clear() }
  /* step: claim */
  :: atomic { MAY_CLAIM(s) && WAITING(current[s]) ->
      begin_turn(s);
      claim_script(current[s], false);
      handle_claimed(s);
      clear() }
  /* step: claim-lost */
  :: atomic { MAY_CLAIM(s) && WAITING(current[s]) && MAY(CALL) ->
      faults--;
      begin_turn(s);
      pipeline[s] = claiming;
      if
      :: claim_script(current[s], false)
      :: late == 0 -> late = claim; late_run = current[s]
      fi;
      clear() }
  /* step: claim-repeated */
  :: atomic { LIVE(s) && pipeline[s] == claiming ->
      claim_script(current[s], false);
      handle_claimed(s);
      clear() }
  /* step: adopted */
  :: atomic { LIVE(s) && pipeline[s] == idle && known[s] > 0 && STAYS(s) ->
      pipeline[s] = reporting; outcome[s] = exhausted;
      if
      :: known[s] % 2 == 1 -> task[s] = ADOPTION(current[s], 1); known[s]--
      :: else -> task[s] = ADOPTION(current[s], 2); known[s] = 0
      fi;
      record[s] = flight[task[s]];
      if
      :: record[s] > 0 -> record[s]--
      :: else
      fi }
  /* step: report */
  :: atomic { MAY_REPORT(s) ->
      choose(s);
      if
      :: outcome[s] == lost && flight[task[s]] > 0 && attempts[record[s]] + 1 == ATTEMPTS ->
        attempts[record[s]] = ATTEMPTS; outcome[s] = exhausted; pipeline[s] = reporting
      :: else ->
        report_script(task[s], record[s], outcome[s]);
        handle_verdict(s)
      fi;
      clear() }
  /* step: report-lost */
  :: atomic { MAY_REPORT(s) && MAY(CALL) ->
      faults--;
      choose(s);
      pipeline[s] = reporting;
      if
      :: outcome[s] == lost -> outcome[s] = returned
      :: else
      fi;
      repeated[s] = 1;
      if
      :: report_script(task[s], record[s], outcome[s])
      :: late == 0 -> late = report; late_run = current[s]; late_of = task[s]; late_record = record[s]; late_outcome = outcome[s]
      fi;
      clear() }
  od
}

/* Lease registers the run, ticks, reaps and leaves. */
proctype Lease(byte s) {
  do
  /* step: register */
  :: atomic { LIVE(s) && lease[s] == starting ->
      d_step {
        for (i : 0 .. RUNS - 1) {
          if
          :: current[s] == NONE && !member[i] && !gone[i] -> current[s] = i
          :: else
          fi
        }
      }
      assert(current[s] != NONE);
      owner[current[s]] = s; member[current[s]] = 1; alive[current[s]] = 1;
      lease[s] = ticking;
      clear() }
  /* step: tick */
  :: atomic { LIVE(s) && lease[s] == ticking ->
      if
      :: !member[current[s]] && !IS(RENEW_BY_FENCED_RUN) -> forget_run(s) /* step: fence */
      :: else ->
        d_step {
        alive[current[s]] = 1; excused[current[s]] = 0; age[s] = 0;
        check_members(s);
        drain_inboxes();
        for (i : 0 .. RECORDS - 1) { queue[i] = queue[i] + delayed[i]; delayed[i] = 0 }
        reconcile(s);
        for (i : 0 .. RUNS - 1) { /* the reply has the runs to reap */
          left(i);
          if
          :: i != current[s] && member[i] && looks[i] == LOOKS -> victim[s] = i; lease[s] = retiring
          :: gone[i] && n > 0 && !IS(REAP_NOT_RESUMED) -> victim[s] = i; lease[s] = retiring
          :: else
          fi
        }
        }
      fi;
      clear() }
  /* step: retire */
  :: atomic { LIVE(s) && lease[s] == retiring ->
      if
      :: retire_script(current[s], victim[s]); lease[s] = reaping
      :: late == 0 && MAY(CHORE) -> faults--; late = retire; late_run = current[s]; late_of = victim[s]; lease[s] = ticking; victim[s] = 0
      fi;
      clear() }
  /* step: reap */
  :: atomic { LIVE(s) && lease[s] == reaping ->
      if
      :: taken[s] > 0 -> queue[taken[s] - 1]++; taken[s] = 0; ok = 0; d = NONE
      :: else ->
        reap_script(current[s], victim[s]);
        if
        :: IS(REAP_IN_TWO_STEPS) && x > 0 && d == NONE -> queue[x - 1]--; taken[s] = x; ok = 0
        :: else
        fi
      fi;
      if
      :: d != NONE -> known[s] = known[s] + SEQUENCE(d) - CLAIMS
      :: else
      fi;
      if
      :: ok -> lease[s] = ticking; victim[s] = 0
      :: else
      fi;
      clear() }
  /* step: reap-lost */
  :: atomic { LIVE(s) && lease[s] == reaping && MAY(CHORE) ->
      faults--;
      if
      :: reap_script(current[s], victim[s])
      :: late == 0 -> late = reap; late_run = current[s]; late_of = victim[s]
      fi;
      lease[s] = ticking; victim[s] = 0;
      clear() }
  /* step: leave */
  :: atomic { LIVE(s) && lease[s] == leaving ->
      member[current[s]] = 0; alive[current[s]] = 0;
      clean[current[s]] = !gone[current[s]] || clean[current[s]];
      gone[current[s]] = 1; looks[current[s]] = 0; excused[current[s]] = 0; turned[current[s]] = 0; took[current[s]] = 0;
      lease[s] = emptying;
      clear() }
  /* step: leave-reap */
  :: atomic { LIVE(s) && lease[s] == emptying ->
      reap_script(current[s], current[s]);
      if
      :: ok -> forget_run(s)
      :: else
      fi;
      clear() }
  od
}

/* Network delivers late calls, and ends the pauses of frozen sidecars. */
proctype Network() {
  do
  /* step: thaw */
  :: frozen[0] -> frozen[0] = 0
  :: frozen[1] -> frozen[1] = 0
  /* step: late-call */
  :: atomic { late != 0 ->
      if
      :: late == claim -> claim_script(late_run, late_old)
      :: late == move ->
        if
        :: queue[0] > 0 -> queue[0]--; INBOX(late_run, 0)++
        :: queue[1] > 0 -> queue[1]--; INBOX(late_run, 1)++
        :: else
        fi
      :: late == report -> report_script(late_of, late_record, late_outcome)
      :: late == retire -> retire_script(late_run, late_of)
      :: late == reap -> reap_script(late_run, late_of)
      :: true /* the network loses it */
      fi;
      late = 0; late_run = NONE; late_of = 0; late_record = 0; late_outcome = 0; late_old = 0;
      clear() }
  od
}

/* Faults has the faults that come from outside; the others stand beside the call that they
   hit. The sum of all is bounded, and any smaller number is possible as well. */
proctype Faults() {
  byte s;
  do
  :: atomic { faults > 0 && kinds >= FREEZE ->
      select(s : 0 .. 1);
      if
      /* step: freeze */
      :: HEALTHY(s) && MAY(FREEZE) -> faults--; frozen[s] = 1; excused[current[s]] = 1; alive[current[s]] = 0
      /* step: die */
      :: LIVE(s) && MAY(DIE) ->
        faults--;
        if
        :: current[s] != NONE -> excused[current[s]] = 1; alive[current[s]] = 0
        :: else
        fi;
        forget_run(s);
        if
        :: !removed[1 - s] -> removed[s] = 1
        :: true
        fi
      /* step: leave-begin */
      :: HEALTHY(s) && lease[s] == ticking && MAY(LEAVE) -> faults--; excused[current[s]] = 1; settle(s); known[s] = 0; lease[s] = leaving
      /* step: outage */
      :: MAY(OUTAGE) ->
        faults--;
        d_step {
          for (i : 0 .. RUNS - 1) {
            alive[i] = 0; looks[i] = 0;
            /* A call that was to retire the run is under way: see the README. */
            if
            :: (lease[0] == retiring && victim[0] == i) || (lease[1] == retiring && victim[1] == i) || (late == retire && late_of == i) -> excused[i] = 1
            :: else
            fi
          }
          age[0] = 0; age[1] = 0
        }
      /* step: requeue */
      :: letters[s] > 0 && counter < NAMES && MAY(OPERATOR) ->
        faults--;
        if
        :: counted[NAME(s)] ->
          counted[NAME(s)] = IS(REQUEUE_KEEPS_COUNTED);
          counter--
        :: else
        fi;
        letters[s]--; queue[s]++; attempts[s] = 0
      :: else
      fi;
      s = 0;
      clear() }
  :: faults = 0; break
  od
}

/* Monitor is able to do a step only in a state that violates a property. */
#define HAS(d, rec)     (flight[d] == (rec) + 1)
#define IN_RUN(r, rec)  (INBOX(r, rec) + HAS((r) * WIDTH, rec) + HAS((r) * WIDTH + 1, rec) + HAS((r) * WIDTH + 2, rec) + HAS((r) * WIDTH + 3, rec) + HAS((r) * WIDTH + 4, rec) + HAS((r) * WIDTH + 5, rec))
#define PLACES(rec)     (queue[rec] + delayed[rec] + letters[rec] + ended[rec] + IN_RUN(0, rec) + IN_RUN(1, rec) + IN_RUN(2, rec) + IN_RUN(3, rec))
#define LEASED_GONE(r)  (alive[r] && !member[r])

proctype Monitor() {
  do
  :: atomic { PLACES(0) != 1 || PLACES(1) != 1 -> PROPERTY(one_place, false) }
  :: atomic { counter != counted[0] + counted[1] -> PROPERTY(counted_once, false) }
  :: atomic { LEASED_GONE(0) || LEASED_GONE(1) || LEASED_GONE(2) || LEASED_GONE(3) -> PROPERTY(fenced_run_is_inert, false) }
  od
}

c_decl {
  \#include <stdlib.h>
  static int environment(const char *name, int without) {
    const char *value = getenv(name);
    if (value) return atoi(value);
    return without;
  }
};

init {
  atomic {
    c_code {
      now.mistake = environment("MISTAKE", 0);
      now.repeated_push = environment("REPEATED_PUSH", 0);
      now.faults = environment("FAULTS", 2);
      now.kinds = environment("KINDS", 255);
    };
    assert(faults <= FAULTS);
    queue[0] = 1; queue[1] = 1; attempts[1] = ATTEMPTS - 1;
    late_run = NONE; task[0] = NONE; task[1] = NONE; pipeline[0] = idle; pipeline[1] = idle;
    /* Both have registered. */
    current[0] = 0; member[0] = 1; alive[0] = 1; lease[0] = ticking;
    current[1] = 1; member[1] = 1; alive[1] = 1; lease[1] = ticking; owner[1] = 1;
    run Pipeline(0); run Pipeline(1); run Lease(0); run Lease(1); run Network(); run Faults(); run Monitor()
  }
}
