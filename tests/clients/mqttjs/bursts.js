'use strict'
// 5,000 messages in one burst to MQTT.js with its default Receive Maximum.

const { BURST_DEADLINE, Suite, assert, expectSequence, main, over } = require('../support/harness.js')
const { withClients } = require('./mqttjs_client.js')

const LINES = Array.from({ length: 5000 }, (_, n) => `${n} of a burst that must arrive whole, in order and once`)

function burst(qos) {
  return async (connect) => {
    const [topic, sub, pub] = [`burst/${qos}`, await connect(), await connect()]
    await sub.subscribe(topic)
    // MQTT.js adds a listener for each message that waits for the socket, which is what a burst is about.
    pub.mqtt.stream.setMaxListeners(0)
    // "end" is published last on the same topic, so that an extra copy of any message comes before it.
    const published = [...LINES, 'end'].map((line) => pub.publish(topic, line, qos, {}, BURST_DEADLINE))
    const got = []
    for (;;) {
      const { topic: on, payload, packet } = await sub.message()
      if (payload.toString() === 'end') break
      assert.deepEqual([on, packet.qos, packet.retain], [topic, qos, false], 'topic, QoS and retain flag')
      got.push(payload.toString())
    }
    expectSequence(got, LINES, 'burst')
    await Promise.all(published)
    await sub.disconnect()
    await pub.disconnect()
  }
}

function suites() {
  // Through both layers at once, which have buffers of their own.
  return ['tcp', 'wss'].flatMap((transport) => ['v3.1.1', 'v5'].map((version) => {
    const suite = new Suite(over(`MQTT.js bursts ${version}`, transport), [transport])
    for (const qos of [0, 1, 2]) {
      suite.add(`5,000 from MQTT.js at QoS ${qos}`, (address) => withClients([address], version, burst(qos)))
    }
    return suite
  }))
}

main(suites())
