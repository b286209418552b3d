// The tables: what runs, and the sidecars.
import { $, age, ago, h, list, number, text } from './dom.js'
import { ask, button, send } from './actions.js'

const cell = (label, ...children) => h('td', { role: 'cell', 'data-label': label }, ...children)

// running shows a row a task, and one for each idle worker process of this sidecar.
export function running(runs, self, matches, clock) {
  const rows = []
  for (const run of runs) {
    for (const child of run.children ?? []) {
      const idle = run.id === self && !child.tasks?.length
      for (const task of idle ? [null] : child.tasks ?? []) {
        const row = { run, child, task, key: task ? task.delivery : run.id + '/' + child.slot + '/' + child.pid }
        const words = [task?.task_id, task?.session_id, task?.group_id, task?.message, run.worker_id, run.host, run.id, child.pid]
        if (matches(words)) rows.push(row)
      }
    }
  }
  const tasks = rows.filter(r => r.task)
  tasks.sort((a, b) => Date.parse(a.task.since) - Date.parse(b.task.since))
  const shown = [...tasks, ...rows.filter(r => !r.task)].slice(0, 300)
  list($('running').tBodies[0], shown, r => r.key, runningRow)
  tick(clock)
  text($('running-count'), tasks.length ? number(tasks.length) : '')
  return shown.length
}

function runningRow({ run, child, task }) {
  const where = cell('Where', h('span', { class: 'strong' }, run.worker_id), h('span', { class: 'sub' }, `${run.host} · slot ${child.slot} · pid ${child.pid}`))
  if (!task) {
    return h('tr', { role: 'row', class: 'idle' }, cell('Task', h('span', { class: 'muted' }, child.state === 'serving' || !child.state ? 'idle' : child.state)), where, cell(''), cell(''), cell(''))
  }
  const since = h('span', { 'data-since': Date.parse(task.since), class: 'num' })
  const bar = h('progress', { max: 1, 'aria-label': 'Progress of ' + task.task_id })
  const share = h('span', { class: 'num share' }), message = h('span', { class: 'sub clip' })
  const waits = h('span', { class: 'pill warn' }, 'waits')
  const row = h('tr', { role: 'row' },
    cell('Task', h('span', { class: 'mono strong' }, task.task_id), h('span', { class: 'sub mono clip' }, [task.group_id && 'group ' + task.group_id, task.session_id && 'session ' + task.session_id].filter(Boolean).join(' · '))),
    where, cell('Attempt', h('span', { class: task.attempt > 1 ? 'num warn-text' : 'num' }, String(task.attempt))), cell('For', since),
    cell('Progress', h('span', { class: 'bar-line' }, bar, share, waits), message))
  row.update = ({ task }) => {
    waits.hidden = !task.waiting
    const known = typeof task.progress === 'number'
    bar.hidden = !known
    if (known) bar.value = task.progress
    text(share, known ? Math.round(task.progress * 100) + ' %' : task.waiting ? '' : '–')
    text(message, task.message ?? '')
    message.title = task.message ?? ''
  }
  return row
}

// tick renews every age on the page.
export function tick(clock) {
  for (const el of document.querySelectorAll('[data-since]')) text(el, age(clock() - el.dataset.since))
  for (const el of document.querySelectorAll('[data-ago]')) text(el, ago(clock() - el.dataset.ago))
}

const stateKinds = { absent: 'bad', running: 'good', starting: 'warn', quiet: 'warn', stopping: 'warn', stopped: 'bad' }

export function fleet({ runs, self }, matches, writable, allPaused) {
  const shown = runs.filter(r => matches([r.id, r.worker_id, r.host, r.state, r.command, r.version, r.mode, r.pid]))
  list($('fleet').tBodies[0], shown, r => r.id + writable, r => fleetRow(r, self, writable))
  // What is paused as one of all goes on with all.
  for (const one of document.querySelectorAll('.pause-one')) one.hidden = allPaused
  text($('fleet-count'), number(runs.length))
  return shown.length
}

function fleetRow(run, self, writable) {
  const state = h('span', { class: 'pill' }), paused = h('span', { class: 'pill warn' }, 'paused')
  const boxes = h('span', { class: 'slots', 'aria-hidden': 'true' }), slots = h('span', { class: 'num sub' })
  const done = h('span', { class: 'num' }), failed = h('span', { class: 'num sub' }), http = h('span', { class: 'sub' })
  const problem = h('span', { class: 'sub' })
  const since = h('span', { class: 'num', 'data-since': Date.parse(run.since) })
  let now = run
  const pause = button('Pause', () => now.paused
    ? send('resume', { run: run.id }, `${run.worker_id} goes on.`)
    : send('pause', { run: run.id }, `${run.worker_id} takes nothing more until it is resumed.`), { about: run.worker_id })
  pause.classList.add('pause-one')
  const drain = button('Drain', async () => {
    const yes = await ask(`Drain ${run.worker_id}?`, 'It takes nothing more, finishes what it runs and ends. Whatever started it decides whether it comes back.', 'Drain')
    if (yes) send('drain', { run: run.id }, `${run.worker_id} drains.`)
  }, { about: run.worker_id })
  const row = h('tr', { role: 'row' },
    cell('Sidecar', h('span', { class: 'strong' }, run.worker_id, ' ', run.id === self ? h('span', { class: 'tag' }, 'this one') : ''),
      h('span', { class: 'sub' }, `${run.host} · pid ${run.pid}`), h('span', { class: 'sub mono clip', title: run.id }, run.id)),
    cell('State', h('span', { class: 'pills' }, state, paused), problem, http), cell('Slots', boxes, slots), cell('Done', done, failed), cell('Up', since),
    cell('Worker', h('span', { class: 'mono clip', title: run.command }, run.command), h('span', { class: 'sub' }, `${run.mode} · ${run.version}`)),
    cell('', h('span', { class: 'row' }, writable ? [pause, drain] : [])))
  if (writable) row.lastChild.firstChild.replaceChildren(pause, drain)
  else row.lastChild.replaceChildren()
  row.update = run => {
    now = run
    text(state, run.state || 'unknown')
    state.className = 'pill ' + (stateKinds[run.state] ?? '')
    paused.hidden = !run.paused
    text(problem, run.problem ?? '')
    text(http, run.http ?? '')
    text(pause, run.paused ? 'Resume' : 'Pause')
    pause.setAttribute('aria-label', (run.paused ? 'Resume ' : 'Pause ') + run.worker_id)
    const squares = Math.min(run.slots, 16)
    const full = run.slots > 16 ? Math.round(run.busy / run.slots * 16) : run.busy
    if (boxes.childElementCount !== squares) boxes.replaceChildren(...Array.from({ length: squares }, () => h('i')))
    ;[...boxes.children].forEach((box, i) => box.classList.toggle('on', i < full))
    text(slots, `${run.busy} of ${run.slots} busy` + (run.waiting ? `, ${run.waiting} waiting` : '') + (run.unreported ? `, ${run.unreported} unreported` : ''))
    text(done, number(run.done ?? 0))
    text(failed, run.failed ? number(run.failed) + ' failed' : '')
  }
  return row
}
