// The lists: dead letters and recent failures, each item folded.
import { $, h, list, number, span, text } from './dom.js'
import { ask, button, letter, send } from './actions.js'

const first = message => (message ?? '').split('\n', 1)[0]

function pretty(record) {
  try {
    const value = JSON.parse(record)
    // Numbers beyond 2^53 would not survive: then it stays as it is.
    return /\d{16}/.test(record) ? record : JSON.stringify(value, null, 2)
  } catch {
    return record
  }
}

const pair = (name, value, mono = true) => value === '' || value === undefined || value === null ? [] : [h('dt', {}, name), h('dd', { class: mono ? 'mono' : '' }, String(value))]
const block = (name, body) => body ? [h('h4', {}, name), h('pre', { tabindex: '0', role: 'region', 'aria-label': name }, body)] : []

function summary(item, kind, tag) {
  return h('summary', {},
    h('span', { class: 'mono strong clip' }, item.task_id || '(no task id)'),
    h('span', { class: 'pill ' + kind }, tag),
    h('span', { class: 'message clip' }, first(item.message)),
    h('span', { class: 'when muted num', 'data-ago': Date.parse(item.at) }))
}

export function dead(letters, total, matches, writable) {
  const shown = letters.filter(l => matches([l.id, l.task_id, l.session_id, l.group_id, l.reason, l.message]))
  list($('dead'), shown, l => l.id + writable, l => deadItem(l, writable))
  text($('dead-count'), total ? (total > letters.length ? `newest ${number(letters.length)} of ${number(total)}` : number(total)) : '')
  return shown.length
}

function deadItem(item, writable) {
  const body = h('div', { class: 'fold' })
  const fold = h('details', {}, summary(item, 'bad', item.reason || 'dead'), body)
  fold.addEventListener('toggle', async () => {
    if (!fold.open || body.childElementCount) return
    body.replaceChildren(h('p', { class: 'muted' }, 'loading…'))
    try {
      const all = await letter(item.id)
      body.replaceChildren(
        h('dl', {}, ...pair('Session', all.session_id), ...pair('Group', all.group_id), ...pair('Attempts', all.attempts, false),
          ...pair('Given up', all.at ? new Date(all.at).toLocaleString() : 'unknown', false), ...pair('Delivery', all.id)),
        ...block('Error', all.message), ...block('stderr', all.stderr), ...block('Record', pretty(all.record)))
    } catch (err) {
      body.replaceChildren()
      body.append(h('p', { class: 'error' }, err.message))
    }
  })
  const about = item.task_id || item.id
  const actions = writable && h('span', { class: 'row' },
    button('Requeue', () => send('requeue', { id: item.id, force: false }, `${about} stands in the queue again.`), { about }),
    button('Drop', async () => {
      const yes = await ask(`Drop ${about}?`, 'The record and everything that is kept about it is deleted. This cannot be undone.', 'Drop')
      if (yes) send('drop', { id: item.id }, `${about} was dropped.`)
    }, { kind: 'quiet', about }))
  return h('li', {}, fold, actions || '')
}

const kinds = { failed: 'bad', dead: 'bad', lost: 'warn', retry: 'warn' }

export function failures(all, matches) {
  const shown = all.filter(f => matches([f.task_id, f.session_id, f.group_id, f.kind, f.reason, f.message, f.stderr]))
  list($('failures'), shown, f => f.seq, failureItem)
  text($('failures-count'), all.length ? number(all.length) : '')
  return shown.length
}

function failureItem(item) {
  return h('li', {}, h('details', {}, summary(item, kinds[item.kind] ?? '', item.reason || item.kind),
    h('div', { class: 'fold' },
      h('dl', {}, ...pair('Session', item.session_id), ...pair('Group', item.group_id), ...pair('Attempt', item.attempt, false),
        ...pair('Took', item.took ? span(item.took) : '', false), ...pair('Ended', new Date(item.at).toLocaleString(), false)),
      ...block('Error', item.message), ...block('stderr', item.stderr))))
}
