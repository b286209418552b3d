// Server-sent events over fetch: EventSource cannot send an Authorization header.

const silence = 25_000 // ms; the server says something every 10 s at the latest

// follow calls on.event(name, data), on.state(state, detail) for as long as the
// page is open. A token that is refused is reported once and then left out.
export function follow(on) {
  let token = ''
  let turn = new AbortController()
  let tries = 0

  async function once(signal) {
    let watchdog
    const cut = new AbortController()
    const alive = () => { clearTimeout(watchdog); watchdog = setTimeout(() => cut.abort(), silence) }
    alive()
    try {
      const headers = { Accept: 'text/event-stream' }
      if (token) headers.Authorization = 'Bearer ' + token
      const response = await fetch('/api/events', {
        headers, cache: 'no-store', credentials: 'omit', signal: AbortSignal.any([signal, cut.signal]),
      })
      if (!response.ok) {
        const why = await response.json().then(b => b.error, () => response.statusText)
        if (response.status === 401 && token) {
          token = ''
          on.state('refused', why)
          return
        }
        throw new Error(why)
      }
      let buffer = ''
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
      for (;;) {
        const { done, value } = await reader.read()
        if (done) throw new Error('the stream ended')
        alive()
        buffer += value
        for (let end; (end = buffer.indexOf('\n\n')) >= 0; buffer = buffer.slice(end + 2)) {
          deliver(buffer.slice(0, end))
        }
      }
    } finally {
      clearTimeout(watchdog)
    }
  }

  function deliver(block) {
    let name = 'message', data = ''
    for (const line of block.split('\n')) {
      if (line.startsWith('event: ')) name = line.slice(7)
      else if (line.startsWith('data: ')) data += line.slice(6)
    }
    if (!data) return
    if (name === 'hello') { tries = 0; on.state('live', token ? 'admin' : '') }
    on.event(name, JSON.parse(data))
  }

  async function forever() {
    for (;;) {
      const { signal } = turn
      let why = ''
      try {
        await once(signal)
      } catch (err) {
        why = err.message
      }
      if (signal.aborted || !why) { tries = 0; continue }
      // Half of it by chance, so that the pages of a restarted sidecar do not all
      // come back at once.
      const pause = Math.min(15, 2 ** tries++) * (0.5 + Math.random() / 2)
      on.state('away', why)
      await new Promise(go => {
        const timer = setTimeout(go, pause * 1000)
        signal.addEventListener('abort', () => { clearTimeout(timer); go() }, { once: true })
      })
    }
  }

  forever()
  return {
    // use takes another token ('' for none) and begins a new stream with it.
    use(other) { token = other; const old = turn; turn = new AbortController(); old.abort() },
    token: () => token,
  }
}
