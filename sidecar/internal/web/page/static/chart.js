// Small charts: an area for each series, a time axis, and the values under the
// pointer.
import { number, rate as perSecond } from './dom.js'

const NS = 'http://www.w3.org/2000/svg'
const gap = 4000 // ms without a point that break a line

function s(tag, attrs, ...children) {
  const el = document.createElementNS(NS, tag)
  for (const [name, value] of Object.entries(attrs)) el.setAttribute(name, value)
  el.append(...children)
  return el
}

// nice is the least round number that is not below max.
function nice(max) {
  if (max <= 0) return 1
  const ten = 10 ** Math.floor(Math.log10(max))
  return [1, 2, 2.5, 5, 10].map(m => m * ten).find(v => v >= max)
}

// chart draws series, [{key, name, css}], of the points that draw is given.
export function chart(box, series, { unit = '', whole = false } = {}) {
  const height = 120, left = 34, bottom = 18, top = 8
  const svg = s('svg', { role: 'img', height })
  const tip = document.createElement('div')
  tip.className = 'tip'
  tip.hidden = true
  box.append(svg, tip)
  const show = whole ? number : perSecond
  let points = [], pointer = null

  function draw() {
    const width = box.clientWidth
    if (!width) return
    const last = points.at(-1)?.t ?? Date.now()
    const first = Math.min(points[0]?.t ?? last, last - 30_000)
    let max = 0
    for (const p of points) for (const { key } of series) max = Math.max(max, p[key] ?? 0)
    max = nice(whole ? Math.max(max, 4) : Math.max(max, 0.1))
    const x = t => left + (t - first) / (last - first) * (width - left - 6)
    const y = v => height - bottom - v / max * (height - bottom - top)
    const parts = []
    for (const share of [0, 0.5, 1]) {
      const at = Math.round(y(max * share)) + 0.5
      parts.push(s('line', { class: 'grid', x1: left, x2: width - 6, y1: at, y2: at }))
      parts.push(s('text', { class: 'axis', x: left - 6, y: at + 3.5, 'text-anchor': 'end' }, number(+(max * share).toPrecision(3))))
    }
    const seconds = Math.round((last - first) / 1000)
    const past = seconds < 90 ? seconds + ' s' : Math.round(seconds / 60) + ' min'
    parts.push(s('text', { class: 'axis', x: left, y: height - 3 }, past + ' ago'))
    parts.push(s('text', { class: 'axis', x: width - 6, y: height - 3, 'text-anchor': 'end' }, 'now'))
    for (const one of series) parts.push(...lines(one, x, y))
    if (pointer !== null && points.length) parts.push(...cross(x, y, width))
    svg.setAttribute('width', width)
    svg.setAttribute('viewBox', `0 0 ${width} ${height}`)
    svg.replaceChildren(...parts)
    svg.setAttribute('aria-label', series.map(({ key, name }) => {
      const values = points.map(p => p[key]).filter(v => v !== null)
      if (!values.length) return name + ': nothing yet'
      return `${name}: ${show(values.at(-1))}${unit} now, at most ${show(Math.max(...values))}${unit} in ${past}`
    }).join('; '))
  }

  // lines are a series' stretches without a gap, each with what is below it.
  function lines({ key, css }, x, y) {
    const out = []
    let run = []
    const end = () => {
      if (!run.length) return
      const path = run.map(([a, b], i) => (i ? 'L' : 'M') + a.toFixed(1) + ' ' + b.toFixed(1)).join('')
      const floor = y(0).toFixed(1)
      out.push(s('path', { class: 'area ' + css, d: `${path}L${run.at(-1)[0].toFixed(1)} ${floor}L${run[0][0].toFixed(1)} ${floor}Z` }))
      out.push(s('path', { class: 'line ' + css, d: run.length > 1 ? path : path + 'h0.1' }))
      run = []
    }
    let before = 0
    for (const p of points) {
      if (p[key] === null || p.t - before > gap) end()
      if (p[key] !== null) run.push([x(p.t), y(p[key])])
      before = p.t
    }
    end()
    return out
  }

  // cross is a line through the point next to the pointer; the tip says its values.
  function cross(x, y, width) {
    let near = points[0]
    for (const p of points) if (Math.abs(x(p.t) - pointer) < Math.abs(x(near.t) - pointer)) near = p
    const at = x(near.t)
    const marks = [s('line', { class: 'cross', x1: at, x2: at, y1: top, y2: height - bottom })]
    const words = []
    for (const { key, name, css } of series) {
      if (near[key] === null) continue
      marks.push(s('circle', { class: 'mark ' + css, cx: at, cy: y(near[key]), r: 3.5 }))
      words.push(name + ' ' + show(near[key]) + unit)
    }
    tip.textContent = new Date(near.t).toLocaleTimeString() + ' · ' + (words.join(' · ') || 'Redis was away')
    tip.style.left = Math.min(Math.max(at, 80), width - 80) + 'px'
    return marks
  }

  svg.addEventListener('pointermove', e => { pointer = e.offsetX; tip.hidden = false; draw() })
  svg.addEventListener('pointerleave', () => { pointer = null; tip.hidden = true; draw() })
  new ResizeObserver(draw).observe(box)
  return { draw(all) { points = all; draw() } }
}
