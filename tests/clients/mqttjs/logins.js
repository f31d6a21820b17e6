'use strict'
// MQTT.js that logs in with SCRAM-SHA-256, which its user has to compute, and with tokens that PyJWT has made.

const { execFileSync } = require('node:child_process')
const crypto = require('node:crypto')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const mqtt = require('mqtt')

const { Suite, assert, main, within } = require('../support/harness.js')

const METHOD = 'SCRAM-SHA-256'
const TOKENS = path.join(__dirname, '../../tokens')
const NOT_AUTHORIZED = 0x87

const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'logins-'))
process.on('exit', () => fs.rmSync(directory, { recursive: true, force: true }))

const hmac = (key, text) => crypto.createHmac('sha256', key).update(text).digest()

/** The client's side of RFC 5802. */
class Scram {
  constructor(user, password) {
    this.password = password
    this.bare = `n=${user},r=${crypto.randomBytes(18).toString('base64')}`
  }

  first() {
    return Buffer.from(`n,,${this.bare}`)
  }

  last(challenge) {
    const { r: nonce, s: salt, i: iterations } = Object.fromEntries(
      challenge.split(',').map((field) => [field[0], field.slice(2)])
    )
    const withoutProof = `c=biws,r=${nonce}`
    const transcript = `${this.bare},${challenge},${withoutProof}`
    const salted = crypto.pbkdf2Sync(this.password, Buffer.from(salt, 'base64'), Number(iterations), 32, 'sha256')
    const clientKey = hmac(salted, 'Client Key')
    const signature = hmac(crypto.createHash('sha256').update(clientKey).digest(), transcript)
    const proof = clientKey.map((byte, index) => byte ^ signature[index])
    this.signature = `v=${hmac(hmac(salted, 'Server Key'), transcript).toString('base64')}`
    return Buffer.from(`${withoutProof},p=${proof.toString('base64')}`)
  }
}

/** Connects with SCRAM; the CONNACK, or the error. */
function logIn({ port }, scram) {
  const client = mqtt.connect({
    host: '127.0.0.1',
    port,
    protocolVersion: 5,
    reconnectPeriod: 0,
    properties: { authenticationMethod: METHOD, authenticationData: scram.first() }
  })
  client.finished = []
  client.handleAuth = (packet, callback) => {
    const data = packet.properties.authenticationData.toString()
    if (packet.reasonCode === 0) {
      client.finished.push(data)
      return callback()
    }
    const properties = { authenticationMethod: METHOD, authenticationData: scram.last(data) }
    return callback(null, { cmd: 'auth', reasonCode: 0x18, properties })
  }
  const connack = new Promise((resolve, reject) => {
    client.on('connect', resolve)
    client.on('error', reject)
  })
  return [client, within(connack, 'CONNACK')]
}

async function withScram(address) {
  const scram = new Scram('ann', 'pencil')
  const [client, connected] = logIn(address, scram)
  const connack = await connected
  assert.equal(connack.properties.authenticationMethod, METHOD)
  assert.equal(connack.properties.authenticationData.toString(), scram.signature)
  await client.subscribeAsync('a')
  const message = new Promise((resolve) => client.on('message', (_, payload) => resolve(payload.toString())))
  // Anew, with a message between.
  const again = new Scram('ann', 'pencil')
  const before = client.handleAuth
  client.handleAuth = (packet, callback) => {
    if (packet.reasonCode === 0) return before(packet, callback)
    const data = again.last(packet.properties.authenticationData.toString())
    const properties = { authenticationMethod: METHOD, authenticationData: data }
    return callback(null, { cmd: 'auth', reasonCode: 0x18, properties })
  }
  const properties = { authenticationMethod: METHOD, authenticationData: again.first() }
  client._sendPacket({ cmd: 'auth', reasonCode: 0x19, properties })
  await client.publishAsync('a', 'between', { qos: 1 })
  assert.equal(await within(message, 'message'), 'between')
  await client.publishAsync('a', 'after', { qos: 1 })
  assert.deepEqual(client.finished, [again.signature])
  await client.endAsync()
}

async function withAWrongPassword(address) {
  const [client, connected] = logIn(address, new Scram('ann', 'pen'))
  await assert.rejects(connected, { code: NOT_AUTHORIZED })
  client.end(true)
}

async function withATokenOf({ port }, algorithm) {
  const password = JSON.parse(fs.readFileSync(path.join(TOKENS, 'tokens.json'), 'utf8'))[algorithm]
  for (const protocolVersion of [4, 5]) {
    const settings = { host: '127.0.0.1', port, protocolVersion, username: 'ann', password, reconnectPeriod: 0 }
    const client = await within(mqtt.connectAsync(settings), 'connection')
    await client.publishAsync('of/ann', 'x', { qos: 1 })
    await client.endAsync()
    await assert.rejects(mqtt.connectAsync({ ...settings, username: 'bob' }))
  }
}

function suites() {
  const users = path.join(directory, 'users')
  execFileSync(process.env.BROKER_BIN ?? 'broker', ['passwd', 'add', users, 'ann', '--scram', '--stdin'], { input: 'pencil' })
  const scram = new Suite('MQTT.js with SCRAM', ['tcp'], ['--password-file', users])
  scram.add('a login, and another on the same connection', withScram)
  scram.add('a wrong password', withAWrongPassword)
  const tokens = new Suite('MQTT.js with tokens', ['tcp'], ['--jwt-jwks-file', path.join(TOKENS, 'jwks.json')])
  for (const algorithm of ['RS256', 'ES256', 'ES384', 'EdDSA']) {
    tokens.add(`a token with ${algorithm}`, (address) => withATokenOf(address, algorithm))
  }
  return [scram, tokens]
}

main(suites())
