// The page: what the stream says, shown.
import { $, age, h, list, number, rate, span, text } from './dom.js'
import { ask, begin, lock, send, unlock, unlocked, wrongToken } from './actions.js'
import { chart } from './chart.js'
import { follow } from './stream.js'
import { dead, failures } from './letters.js'
import { fleet, running, tick } from './tables.js'

const kept = 600
const state = { hello: null, now: null, fleet: { runs: [], self: '' }, letters: [], failures: [], points: [], words: [] }
let skew = 0 // between the sidecar's clock and this one
const clock = () => Date.now() + skew

const depthChart = chart($('depth-chart'), [{ key: 'depth', name: 'queued', css: 'depth' }], { whole: true })
const rateChart = chart($('rate-chart'), [{ key: 'done', name: 'done', css: 'done' }, { key: 'failed', name: 'failed', css: 'failed' }], { unit: ' / s' })

const handlers = {
  hello(e) {
    Object.assign(state, { hello: e, failures: [], letters: [], fleet: { runs: [], self: '' }, points: e.history })
    skew = e.at - Date.now()
    text($('about'), `${e.prefix} · ${e.version}`)
    access()
    draw()
    everything()
  },
  now(e) {
    state.now = e
    skew = e.at - Date.now()
    if (!state.points.length || state.points.at(-1).t < e.point.t) state.points.push(e.point)
    if (state.points.length > kept) state.points.splice(0, state.points.length - kept)
    tiles()
    draw()
    tick(clock)
  },
  fleet(e) { state.fleet = e; soon() },
  dead(e) { state.letters = e.letters ?? []; soon() },
  failures(e) { state.failures = [...e.add.toReversed(), ...state.failures].slice(0, 100); soon() },
}

const stream = follow({
  event: (name, data) => handlers[name]?.(data),
  state(what, detail) {
    if (what === 'refused') { wrongToken(); return }
    const live = what === 'live'
    $('live').className = 'pill ' + (live ? 'good' : 'bad')
    text($('live'), live ? 'live' : 'offline')
    document.body.classList.toggle('stale', !live)
    banner('offline', live ? '' : `No news from the sidecar (${detail}). Trying again; what is shown is from before.`)
    if (live && detail === 'admin') unlocked()
  },
})
begin(stream)

// access shows what this viewer may see and do.
function access() {
  const { level, writable } = state.hello
  const counts = level === 'counts'
  $('details').hidden = counts
  $('locked').hidden = !counts
  text($('locked-text'), writable
    ? 'This address can be reached from other machines: tasks, errors and dead letters are shown with the admin token, counts without.'
    : 'This address can be reached from other machines and no admin token is set: only counts are shown. Set SIDECAR_ADMIN_TOKEN to see and do more.')
  $('locked-unlock').hidden = !writable
  $('unlock').hidden = !writable
  text($('unlock'), level === 'admin' ? 'Lock' : 'Unlock')
  $('pause-all').hidden = !writable || counts
}

const banners = new Map()
function banner(name, words, kind = 'bad', actions = []) {
  if (words) banners.set(name, { name, words, kind, actions })
  else banners.delete(name)
  list($('banners'), [...banners.values()], b => b.name, b => {
    const said = h('p', {})
    const el = h('div', { class: 'banner ' + b.kind }, said, ...b.actions)
    el.update = b => text(said, b.words)
    return el
  })
}

function tiles() {
  const n = state.now
  const away = !n.redis.up
  document.body.classList.toggle('away', away)
  banner('redis', away ? `Redis cannot be reached (${n.redis.why}) for ${span(n.at - n.redis.since)}. What is shown of the queue is from before; this sidecar’s own tasks are live.` : '')
  banner('paused', n.paused ? 'All sidecars are paused: nothing is taken from the queue.' : '', 'warn')
  text($('pause-all'), n.paused ? 'Resume all' : 'Pause all')
  text($('depth'), number(n.depth))
  text($('depth-note'), n.unrouted ? number(n.unrouted) + ' unrouted' : '')
  text($('rate'), n.point.done === null ? '–' : rate(n.point.done))
  text($('oldest'), n.depth ? age(n.oldest) : '–')
  text($('oldest-note'), n.depth ? 'in the queue' : 'nothing waits')
  text($('busy'), number(n.busy))
  text($('slots'), `of ${number(n.slots)}`)
  text($('runs'), n.runs === 1 ? 'on 1 sidecar' : `on ${number(n.runs)} sidecars`)
  $('busy-bar').style.width = (n.slots ? Math.min(100, n.busy / n.slots * 100) : 0) + '%'
  text($('inflight'), number(n.in_flight))
  text($('delayed'), n.delayed ? number(n.delayed) + ' wait for a retry' : 'no retries wait')
  text($('deadcount'), number(n.dead))
  $('deadcount').classList.toggle('bad-text', n.dead > 0)
  text($('dead-note'), n.dead ? 'given up' : 'none given up')
  document.title = (away ? '⚠ ' : '') + `${number(n.depth)} queued · ${state.hello.prefix}`
}

function draw() {
  depthChart.draw(state.points)
  rateChart.draw(state.points)
}

// matches reports whether all words of the filter occur in some of texts.
function matches(texts) {
  if (!state.words.length) return true
  const hay = texts.filter(Boolean).join('\n').toLowerCase()
  return state.words.every(w => hay.includes(w))
}

function everything() {
  const { hello, now, fleet: f } = state
  if (!hello || hello.level === 'counts') return
  const filtered = state.words.length > 0
  const empty = (id, shown, nothing) => {
    const el = $(id).parentElement.querySelector('.empty')
    el.hidden = shown > 0
    if ($(id).tagName === 'TABLE') $(id).hidden = shown === 0
    text(el, filtered ? 'Nothing here fits the filter.' : nothing)
  }
  empty('running', running(f.runs, f.self, matches, clock), 'Nothing runs.')
  empty('fleet', fleet(f, matches, hello.writable, now?.paused), 'No sidecar is registered.')
  empty('dead', dead(state.letters, now?.dead ?? state.letters.length, matches, hello.writable), 'No dead letters.')
  empty('failures', failures(state.failures, matches), 'No task of this sidecar has failed since it began.')
  tick(clock)
}

// soon renders what came together once.
let due = 0
function soon() {
  if (!due) due = requestAnimationFrame(() => { due = 0; everything() })
}

$('filter').addEventListener('input', () => {
  state.words = $('filter').value.toLowerCase().split(/\s+/).filter(Boolean)
  everything()
})
document.addEventListener('keydown', e => {
  const typing = e.target.closest('input, dialog')
  if (e.key === '/' && !typing && !e.ctrlKey && !e.metaKey && !e.altKey) {
    e.preventDefault()
    $('filter').focus()
  }
})

$('theme').addEventListener('click', () => {
  const dark = getComputedStyle(document.documentElement).getPropertyValue('--dark').trim() === '1'
    || (!document.documentElement.dataset.theme && matchMedia('(prefers-color-scheme: dark)').matches)
  const theme = dark ? 'light' : 'dark'
  document.documentElement.dataset.theme = theme
  try { localStorage.setItem('theme', theme) } catch { /* for this page only, then */ }
})
$('unlock').addEventListener('click', () => state.hello.level === 'admin' ? lock() : unlock())
$('locked-unlock').addEventListener('click', () => unlock())
$('pause-all').addEventListener('click', async () => {
  if (state.now?.paused) { send('resume', { run: '*' }, 'The sidecars go on.'); return }
  const yes = await ask('Pause all sidecars?', 'Nothing more is taken from the queue until it is resumed. What runs goes on.', 'Pause all')
  if (yes) send('pause', { run: '*' }, 'All sidecars are paused.')
})
setInterval(() => tick(clock), 1000)
