// What a person does: the token, questions, answers.
import { $, h } from './dom.js'

let stream // of main.js: it knows the token
let after = null // what waits for the token

export function begin(follower) {
  stream = follower
  for (const button of document.querySelectorAll('[data-close]')) {
    button.addEventListener('click', () => button.closest('dialog').close())
  }
  $('token-form').addEventListener('submit', e => {
    e.preventDefault()
    const value = $('token').value.trim()
    if (value) stream.use(value)
  })
  $('token-dialog').addEventListener('close', () => { $('token').value = ''; after = null })
}

// unlock asks for the token, and does then what was wanted.
export function unlock(then = null) {
  $('token-error').textContent = ''
  if (!$('token-dialog').open) $('token-dialog').showModal()
  after = then
}

export function unlocked() {
  const then = after
  if ($('token-dialog').open) {
    $('token-dialog').close()
    toast('Unlocked: actions use the token until this page is closed or reloaded.')
  }
  then?.()
}

export function wrongToken() {
  unlock(after)
  $('token-error').textContent = 'That is not the token of this sidecar.'
  $('token').select()
}

export function lock() {
  stream.use('')
  toast('Locked.')
}

// ask puts a question whose answer is a click on yes.
export function ask(title, why, yes) {
  const dialog = $('confirm-dialog')
  $('confirm-title').textContent = title
  $('confirm-text').textContent = why
  $('confirm-yes').textContent = yes
  dialog.showModal()
  return new Promise(answer => {
    let said = false
    $('confirm-form').onsubmit = e => { e.preventDefault(); said = true; dialog.close() }
    dialog.onclose = () => answer(said)
  })
}

// forced are refusals that can be overruled, with what to ask.
const forced = {
  'group-over': ['Its group is over', 'The barrier of this task’s group is no longer open: no workflow waits for its result. It can run all the same.'],
  counted: ['Its failure was counted', 'Its group is still open, and this task was counted there as failed in a way that cannot be taken back. It can run all the same, but its result counts for no group.'],
}

// send does an action and says how it went; it asks for the token first where
// that is missing.
export async function send(path, body, said) {
  if (!stream.token()) {
    unlock(() => send(path, body, said))
    return null
  }
  try {
    const response = await fetch('/api/' + path, {
      method: 'POST', cache: 'no-store', credentials: 'omit',
      headers: { 'Content-Type': 'application/json', Authorization: 'Bearer ' + stream.token() },
      body: JSON.stringify(body),
    })
    const answer = await response.json()
    if (response.status === 401) wrongToken()
    else if (response.ok) toast(said)
    else if (forced[answer.result] && !body.force) {
      const yes = await ask(...forced[answer.result], 'Requeue anyway')
      if (yes) return send(path, { ...body, force: true }, said)
    } else toast(answer.error ?? response.statusText, true)
    return answer
  } catch (err) {
    toast('The sidecar cannot be reached: ' + err.message, true)
    return null
  }
}

// letter fetches all of one dead letter.
export async function letter(id) {
  const headers = stream.token() ? { Authorization: 'Bearer ' + stream.token() } : {}
  const response = await fetch('/api/dead?id=' + encodeURIComponent(id), { headers, cache: 'no-store', credentials: 'omit' })
  const body = await response.json()
  if (!response.ok) throw new Error(body.error)
  return body
}

export function toast(words, bad = false) {
  const el = h('p', { class: bad ? 'toast bad' : 'toast' }, words)
  $('toasts').append(el)
  setTimeout(() => el.remove(), bad ? 10_000 : 5000)
}

export const button = (label, onclick, { kind = '', about = '' } = {}) =>
  h('button', { type: 'button', class: 'button small ' + kind, onclick, 'aria-label': about ? label + ' ' + about : undefined }, label)
