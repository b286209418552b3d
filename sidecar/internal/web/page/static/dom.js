// Everything that comes from a record goes into the document as text: nodes are
// made here, with textContent, and the policy forbids any other way.

// h makes an element: h('td', {class: 'x', onclick: f}, 'text', node …).
export function h(tag, attrs = {}, ...children) {
  const el = document.createElement(tag)
  for (const [name, value] of Object.entries(attrs)) {
    if (value === undefined || value === false || value === null) continue
    if (name.startsWith('on')) el.addEventListener(name.slice(2), value)
    else el.setAttribute(name, value === true ? '' : value)
  }
  el.append(...children.filter(c => c !== null && c !== undefined && c !== ''))
  return el
}

export const $ = id => document.getElementById(id)

// text sets it only where it differs: a selection survives.
export function text(el, value) {
  const s = String(value)
  if (el.textContent !== s) el.textContent = s
}

// list makes parent's children those of items, each under its key. Elements are
// kept, so that focus, selection and what is folded out stay as they are. make
// returns an element; its update, if it has one, is called with each new item.
export function list(parent, items, key, make) {
  const old = parent.shown ?? new Map()
  const now = new Map()
  let at = parent.firstElementChild
  for (const item of items) {
    const k = key(item)
    if (now.has(k)) continue
    const el = old.get(k) ?? make(item)
    el.update?.(item)
    now.set(k, el)
    if (el === at) at = at.nextElementSibling
    else parent.insertBefore(el, at)
  }
  for (const [k, el] of old) if (!now.has(k)) el.remove()
  parent.shown = now
}

const whole = new Intl.NumberFormat('en')
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 })

export const number = n => (Math.abs(n) < 100_000 ? whole : compact).format(n)
export const rate = n => n >= 100 ? number(Math.round(n)) : n >= 10 ? n.toFixed(1) : n === 0 ? '0' : n.toFixed(2)

// span is a time in its two largest units.
export function span(ms) {
  const s = Math.max(0, ms) / 1000
  if (s < 10) return s.toFixed(1) + ' s'
  if (s < 60) return Math.floor(s) + ' s'
  const pair = (big, a, small, b) => Math.floor(s / big) + ' ' + a + ' ' + Math.floor((s % big) / small) + ' ' + b
  if (s < 3600) return pair(60, 'm', 1, 's')
  if (s < 86400) return pair(3600, 'h', 60, 'm')
  return pair(86400, 'd', 3600, 'h')
}

// age is the span since a moment. One that is not known (NaN, undefined), or is ahead
// by more than clocks differ, has none.
export function age(ms) {
  return ms >= -1000 ? span(ms) : 'unknown'
}

export function ago(ms) {
  if (!(ms >= -1000)) return 'time unknown'
  if (ms < 5000) return 'just now'
  return span(ms) + ' ago'
}
