'use strict'
// What every Node scenario shares: the broker under test, deadlines, the case runner. The counterpart of harness.py,
// with the same output: one line per case, `ok NAME` or `not ok NAME`, which `tests/run` counts.

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const readline = require('node:readline')

const DEADLINE = 10_000
const BURST_DEADLINE = 60_000

// How a client reaches the broker: the scheme of the address that the broker prints, and the options that ask for it.
const TRANSPORTS = {
  tcp: { scheme: 'mqtt', options: [] },
  tls: { scheme: 'mqtts', options: [] },
  ws: { scheme: 'ws', options: ['--ws-port', '0'] },
  wss: { scheme: 'wss', options: ['--wss-port', '0'] },
  unix: { scheme: 'mqtt+unix', options: [] }
}
const WITH_TLS = ['tls', 'wss']
const LISTENING = /^listening on ([a-z+]+):\/\/(?:127\.0\.0\.1:(\d+)(?:\/mqtt)?|(\/.+))$/

/** The path of a file that `certs/make` has made. */
function certificate(name) {
  const directory = process.env.TEST_CERTS
  if (!directory) {
    console.error('TEST_CERTS names no directory filled by `certs/make`; `tests/run --only NAME` makes one')
    process.exit(1)
  }
  return path.join(directory, name)
}

/** Rejects when a promise has not settled in time. */
async function within(promise, what, deadline = DEADLINE) {
  let timer
  const expired = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${deadline} ms`)), deadline)
  })
  try {
    return await Promise.race([promise, expired])
  } finally {
    clearTimeout(timer)
  }
}

/** A queue of events whose reader can wait for the next one. */
class Inbox {
  #items = []
  #waiting = []

  put(item) {
    const reader = this.#waiting.shift()
    if (reader) reader(item)
    else this.#items.push(item)
  }

  get empty() {
    return this.#items.length === 0
  }

  take(what, deadline = DEADLINE) {
    if (this.#items.length > 0) return Promise.resolve(this.#items.shift())
    return within(new Promise((resolve) => this.#waiting.push(resolve)), what, deadline)
  }
}

/** Compares long lists and names the first difference instead of printing thousands of items. */
function expectSequence(actual, expected, what) {
  const differing = expected.findIndex((item, index) => actual[index] !== item)
  if (differing < 0 && actual.length === expected.length) return
  const seen = new Set(actual)
  const missing = expected.filter((item) => !seen.has(item))
  const at = differing < 0 ? expected.length : differing
  assert.fail(
    `${what}: ${actual.length} received, ${expected.length} expected, ${missing.length} missing ` +
      `(first ${JSON.stringify(missing.slice(0, 3))}), ${actual.length - seen.size} more than once, ` +
      `first difference at ${at}: got ${JSON.stringify(actual.slice(at, at + 3))}, ` +
      `expected ${JSON.stringify(expected.slice(at, at + 3))}`
  )
}

/** For the rules that are about elapsed time itself (message expiry); never to wait for something to happen. */
function letTimePass(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}

/** The broker under test: for each transport a listener, on a port that the kernel chose. */
class Broker {
  static async start(transports = ['tcp'], options = []) {
    const binary = process.env.BROKER_BIN
    if (!binary) {
      console.error('BROKER_BIN does not name a broker binary; `tests/run --only NAME` builds one and sets it')
      process.exit(1)
    }
    const broker = new Broker()
    broker.directory = fs.mkdtempSync(path.join(os.tmpdir(), 'broker-'))
    broker.logFile = path.join(broker.directory, 'stderr')
    const log = fs.openSync(broker.logFile, 'w')
    const words = ['--host', '127.0.0.1', ...broker.#listeners(transports), ...options]
    broker.child = spawn(binary, words, { stdio: ['ignore', 'pipe', log] })
    fs.closeSync(log)
    broker.ended = new Promise((resolve) => {
      broker.child.on('error', (error) => resolve(error.message))
      broker.child.on('exit', (code, signal) => resolve(code ?? signal))
    })
    process.on('exit', () => broker.discard())
    const addresses = broker.#readAddresses(transports)
    broker.addresses = await within(Promise.race([addresses, broker.#endedEarly()]), 'line for each listener')
    return broker
  }

  /** The options that open these listeners. */
  #listeners(transports) {
    const chosen = transports.includes('tcp') ? ['--port', '0'] : ['--no-tcp']
    if (transports.some((transport) => WITH_TLS.includes(transport))) {
      chosen.push('--tls-port', '0', '--tls-cert', certificate('server.pem'), '--tls-key', certificate('server.key'))
    }
    if (transports.includes('unix')) chosen.push('--unix-socket', path.join(this.directory, 'socket'))
    return chosen.concat(...transports.map((transport) => TRANSPORTS[transport].options))
  }

  /** An address for each transport, in their order: `{ transport, port }`, or `{ transport, path }` of a socket. */
  #readAddresses(transports) {
    const found = new Map()
    return new Promise((resolve) => {
      readline.createInterface({ input: this.child.stdout }).on('line', (line) => {
        const [, scheme, port, socket] = LISTENING.exec(line) ?? []
        const transport = transports.find((transport) => TRANSPORTS[transport].scheme === scheme)
        if (!transport) return
        found.set(transport, port ? { transport, port: Number(port) } : { transport, path: socket })
        if (found.size === transports.length) resolve(transports.map((transport) => found.get(transport)))
      })
    })
  }

  async #endedEarly() {
    throw new Error(`the broker ended before it listened: ${await this.ended}\n${this.log()}`)
  }

  log() {
    return fs.readFileSync(this.logFile, 'utf8').split('\n').slice(-25).join('\n')
  }

  /** SIGTERM must drain and exit with code 0. */
  async stop() {
    assert.equal(this.child.exitCode ?? this.child.signalCode, null, 'the broker ended by itself')
    this.child.kill('SIGTERM')
    assert.equal(await within(this.ended, 'end of the broker'), 0, 'exit code of the broker after SIGTERM')
  }

  discard() {
    this.child.kill('SIGKILL')
    fs.rmSync(this.directory, { recursive: true, force: true })
  }
}

/**
 * The cases that share one running broker: `add(name, async (address) => …)`, with an address for each transport of
 * the suite. Without a transport each case has its own broker.
 */
class Suite {
  cases = []

  constructor(name, transports = ['tcp'], options = []) {
    this.name = name
    this.transports = transports
    this.options = options
  }

  add(name, run) {
    this.cases.push({ name: `${this.name}: ${name}`, run })
  }
}

/** The name of a suite that does the same as others over another transport. */
function over(name, transport) {
  return transport === 'tcp' ? name : `${name} over ${transport}`
}

/** Runs the suites, each against a broker of its own; the exit code says whether all passed. */
async function main(suites) {
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(143))
  const only = process.argv.includes('--only') ? process.argv[process.argv.indexOf('--only') + 1] : ''
  let failed = 0
  for (const suite of suites) {
    const cases = suite.cases.filter(({ name }) => name.includes(only))
    if (process.argv.includes('--list')) cases.forEach(({ name }) => console.log(name))
    else if (cases.length > 0) failed += await runSuite(suite, cases)
  }
  process.exit(failed > 0 ? 1 : 0)
}

async function runSuite({ name, transports, options }, cases) {
  let broker = { addresses: [] }
  let failed = 0
  if (transports.length > 0) {
    const start = async () => (broker = await Broker.start(transports, options))
    if (!(await runCase(`${name}: the broker starts`, start))) return 1
  }
  for (const { name, run } of cases) failed += (await runCase(name, () => run(...broker.addresses), broker)) ? 0 : 1
  if (transports.length === 0) return failed
  const ends = `${name}: the broker ends with exit code 0 on SIGTERM`
  failed += (await runCase(ends, () => broker.stop(), broker)) ? 0 : 1
  broker.discard()
  return failed
}

async function runCase(name, run, broker) {
  const started = Date.now()
  const took = () => `(${((Date.now() - started) / 1000).toFixed(2)} s)`
  try {
    await run()
    console.log(`ok ${name} ${took()}`)
    return true
  } catch (error) {
    console.log(`not ok ${name} ${took()}`)
    console.log(`${error.stack}\n${broker?.log?.() ?? ''}`.trimEnd().replace(/^/gm, '    '))
    return false
  }
}

module.exports = {
  BURST_DEADLINE,
  Broker,
  DEADLINE,
  Inbox,
  Suite,
  TRANSPORTS,
  WITH_TLS,
  assert,
  certificate,
  expectSequence,
  letTimePass,
  main,
  over,
  within
}
