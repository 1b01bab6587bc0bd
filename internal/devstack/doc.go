// Package devstack starts, stops, kills, freezes and thaws private RabbitMQ and
// Redis servers, for the development stack, for tests and for experiments that
// break a server on purpose.
//
// An instance shares nothing with a server that already runs on the machine: it
// has its own ports, node name, cookie, home and data directory, listens on
// 127.0.0.1 only, and runs as the current user straight from the programs of the
// distribution. Unless it is started detached it does not outlive the process
// that started it, however that process ends.
//
// Tests need three calls: [VHost] for a fresh virtual host on a broker that
// tests share, [Redis] for a Redis of their own, and [RabbitMQ] or [RedisServer]
// for a server that the test is going to break.
package devstack
