'use strict'
// A Chromium without a window, driven over the pipe that its DevTools protocol offers.

const { spawn } = require('node:child_process')
const crypto = require('node:crypto')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const { DEADLINE, within } = require('../support/harness.js')

const FLAGS = [
  '--headless',
  // The sandbox needs rights that root in a container does not have; the only pages are those of the scenario.
  '--no-sandbox',
  '--disable-gpu',
  '--disable-dev-shm-usage',
  '--no-first-run',
  '--disable-extensions',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--disable-breakpad',
  '--disable-crash-reporter',
  // A page in the background must not be slower than the one in front.
  '--disable-background-timer-throttling',
  '--disable-backgrounding-occluded-windows',
  '--disable-renderer-backgrounding',
  // Nothing but this machine is reached.
  '--no-proxy-server',
  '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
  '--remote-debugging-pipe'
]

class Browser {
  #pending = new Map()
  #waiting = []
  #received = ''
  #last = 0

  /** `trusted` is the file of a certificate that is accepted whoever issued it. */
  static async start(trusted) {
    const browser = new Browser()
    browser.directory = fs.mkdtempSync(path.join(os.tmpdir(), 'browser-'))
    const flags = [...FLAGS, `--user-data-dir=${browser.directory}`]
    flags.push(`--ignore-certificate-errors-spki-list=${publicKeyHash(trusted)}`)
    const env = { ...process.env, HOME: browser.directory, XDG_RUNTIME_DIR: browser.directory }
    const stdio = ['ignore', 'ignore', fs.openSync(path.join(browser.directory, 'stderr'), 'w'), 'pipe', 'pipe']
    browser.child = spawn('chromium', [...flags, 'about:blank'], { stdio, env })
    fs.closeSync(stdio[2])
    browser.#listen()
    await browser.send('Browser.getVersion', {}, undefined, 3 * DEADLINE)
    return browser
  }

  #listen() {
    const [, , , input, output] = this.child.stdio
    input.on('error', () => {})
    output.setEncoding('utf8').on('data', (text) => {
      const messages = (this.#received + text).split('\0')
      this.#received = messages.pop()
      for (const message of messages) this.#take(JSON.parse(message))
    })
    this.ended = new Promise((resolve) => {
      this.child.on('error', resolve)
      // Not `exit`: the output is closed when all of its processes are gone.
      this.child.on('close', resolve)
    })
    this.ended.then((why) => this.#pending.forEach(({ reject }) => reject(new Error(`Chromium has ended: ${why}`))))
    process.on('exit', () => this.discard())
  }

  #take({ id, method, params, sessionId, result, error }) {
    if (id === undefined) {
      const found = this.#waiting.filter((event) => event.method === method && event.sessionId === sessionId)
      this.#waiting = this.#waiting.filter((event) => !found.includes(event))
      found.forEach(({ resolve }) => resolve(params))
      return
    }
    const { resolve, reject } = this.#pending.get(id)
    this.#pending.delete(id)
    if (error) reject(new Error(error.message))
    else resolve(result)
  }

  /** Calls a method of the protocol. */
  send(method, params = {}, sessionId = undefined, deadline = DEADLINE) {
    const id = ++this.#last
    const answer = new Promise((resolve, reject) => this.#pending.set(id, { resolve, reject }))
    this.child.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`)
    return within(answer, `answer to ${method}`, deadline)
  }

  /** The next event with this name. */
  event(method, sessionId) {
    return within(new Promise((resolve) => this.#waiting.push({ method, sessionId, resolve })), method)
  }

  /** A new page, when it has been loaded. */
  async open(url) {
    const { targetId } = await this.send('Target.createTarget', { url: 'about:blank' })
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true })
    const page = new Page(this, targetId, sessionId)
    await page.send('Page.enable')
    await page.load('Page.navigate', { url })
    return page
  }

  async close() {
    await this.send('Browser.close')
    await within(this.ended, 'end of Chromium')
    this.discard()
  }

  discard() {
    this.child.kill('SIGKILL')
    fs.rmSync(this.directory, { recursive: true, force: true, maxRetries: 20, retryDelay: 20 })
  }
}

class Page {
  constructor(browser, targetId, sessionId) {
    Object.assign(this, { browser, targetId, sessionId })
  }

  send(method, params) {
    return this.browser.send(method, params, this.sessionId)
  }

  async load(method, params) {
    const loaded = this.browser.event('Page.loadEventFired', this.sessionId)
    await Promise.all([loaded, this.send(method, params)])
  }

  /** Forgets everything that runs in the page, and its connections, without a word to any of it. */
  reload() {
    return this.load('Page.reload', {})
  }

  /** Calls a function in the page, whose text and arguments are all that it takes along; returns its result. */
  async run(call, ...values) {
    const expression = `(${call})(${values.map((value) => JSON.stringify(value)).join(', ')})`
    const settings = { expression, awaitPromise: true, returnByValue: true }
    const { result, exceptionDetails: thrown } = await this.send('Runtime.evaluate', settings)
    if (thrown) throw new Error(thrown.exception?.description ?? thrown.text)
    return result.value
  }

  close() {
    return this.browser.send('Target.closeTarget', { targetId: this.targetId })
  }
}

function publicKeyHash(file) {
  const { publicKey } = new crypto.X509Certificate(fs.readFileSync(file))
  return crypto.createHash('sha256').update(publicKey.export({ type: 'spki', format: 'der' })).digest('base64')
}

module.exports = { Browser }
