package devstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The broker's account. It reaches no further than the loopback interface.
const rabbitmqUser = "guest"

// RabbitMQOptions says how a broker is started. The zero value is a broker of
// this process: free ports, temporary data.
type RabbitMQOptions struct {
	// Dir holds data, logs and configuration and is kept. Empty: a temporary
	// directory that Close removes.
	Dir string
	// Port and ManagementPort are taken if they are free. Zero: any.
	Port, ManagementPort int
	// DistPort and EPMDPort are those of the Erlang distribution, likewise.
	DistPort, EPMDPort int
	// Config is appended to rabbitmq.conf.
	Config string
}

// RabbitMQInstance is a private RabbitMQ node with the management plugin. Its
// methods are not safe for concurrent use, except URL and ManagementURL.
type RabbitMQInstance struct {
	dir     string
	tempDir bool
	bin     string // the directory of the programs
	ports   rabbitmqPorts
	guard   *guard // nil once detached
	epmd    *Process
	beam    *Process
}

// StartRabbitMQ starts a broker and returns when it serves AMQP and its
// management API, which takes about six seconds. It returns an error that wraps
// [ErrNotInstalled] when there is no RabbitMQ on this machine.
func StartRabbitMQ(ctx context.Context, o RabbitMQOptions) (*RabbitMQInstance, error) {
	r, err := newRabbitMQ(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := r.Start(ctx); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// newRabbitMQ prepares a broker's files and ports without starting it.
func newRabbitMQ(ctx context.Context, o RabbitMQOptions) (*RabbitMQInstance, error) {
	bin, err := RabbitMQPrograms()
	if err != nil {
		return nil, err
	}
	r := &RabbitMQInstance{dir: o.Dir, bin: bin}
	if r.dir == "" {
		if r.dir, err = os.MkdirTemp("", "lovage-rabbitmq-"); err != nil {
			return nil, fmt.Errorf("make directory of rabbitmq: %w", err)
		}
		r.tempDir = true
	}
	if err := r.prepare(ctx, o); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *RabbitMQInstance) prepare(ctx context.Context, o RabbitMQOptions) error {
	var err error
	if r.ports, err = reserveRabbitMQ(ctx, o); err != nil {
		return err
	}
	if err := writeRabbitMQFiles(r.dir, r.ports, o.Config); err != nil {
		return err
	}
	r.guard, err = newGuard(ctx, r.removable())
	return err
}

// removable is the directory that goes with the instance, if any.
func (r *RabbitMQInstance) removable() string {
	if r.tempDir {
		return r.dir
	}
	return ""
}

// Start starts the broker again after Stop or Kill, on the same ports with the
// same data, and returns when it serves. It does nothing when it runs.
func (r *RabbitMQInstance) Start(ctx context.Context) error {
	if r.Alive() {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 90*time.Second, errors.New("it does not answer"))
	defer cancel()
	if err := r.startEPMD(ctx); err != nil {
		return err
	}
	_ = os.Remove(r.path("pid"))
	beam, err := Spawn(ctx, Spec{
		Path: filepath.Join(r.bin, "rabbitmq-server"), Env: r.environment(),
		Dir: r.dir, Log: r.path("log", "stdout.log"),
	})
	if err != nil {
		return err
	}
	r.beam = beam
	if err := r.guard.watch(r.epmd, r.beam); err != nil {
		return err
	}
	return r.await(ctx)
}

// startEPMD starts the port mapper of this node alone. In the foreground it is a
// process with a known pid; one that the node starts by itself would be a daemon
// that stays behind.
func (r *RabbitMQInstance) startEPMD(ctx context.Context) error {
	if r.epmd != nil && r.epmd.Alive() {
		return nil
	}
	path, err := exec.LookPath("epmd")
	if err != nil {
		return fmt.Errorf("epmd, which comes with Erlang: %w", ErrNotInstalled)
	}
	r.epmd, err = Spawn(ctx, Spec{
		Path: path, Args: []string{"-address", "127.0.0.1", "-port", fmt.Sprint(r.ports.epmd.Number())},
		Env: r.environment(), Dir: r.dir, Log: r.path("log", "epmd.log"),
	})
	if err != nil {
		return err
	}
	if err := r.guard.watch(r.epmd); err != nil {
		return err
	}
	return poll(ctx, func() bool { return !r.epmd.Alive() || answers(ctx, r.ports.epmd.Number(), "", 0) })
}

// await returns when the broker serves. AMQP is the last thing that it opens, so
// the management API is there by then.
func (r *RabbitMQInstance) await(ctx context.Context) error {
	err := poll(ctx, func() bool {
		return !r.beam.Alive() || RabbitMQAnswers(ctx, r.ports.amqp.Number())
	})
	return started("rabbitmq", r.beam, r.path("log", "stdout.log"), err)
}

// Stop ends the broker in order, or kills it when ctx ends first. The data stays.
func (r *RabbitMQInstance) Stop(ctx context.Context) error {
	if r.beam == nil {
		return nil
	}
	return r.beam.Stop(ctx)
}

// Kill ends the broker with SIGKILL. The data stays.
func (r *RabbitMQInstance) Kill() error {
	if r.beam == nil {
		return nil
	}
	return r.beam.Kill()
}

// Freeze stops the broker with SIGSTOP: connections to it succeed and nothing
// ever answers.
func (r *RabbitMQInstance) Freeze() error { return r.beam.Freeze() }

// Thaw lets a frozen broker go on.
func (r *RabbitMQInstance) Thaw() error { return r.beam.Thaw() }

// Alive reports whether the broker's process runs; a frozen one does.
func (r *RabbitMQInstance) Alive() bool { return r.beam != nil && r.beam.Alive() }

// PID returns the pid of the process that serves, or zero before the first start.
func (r *RabbitMQInstance) PID() int {
	if r.beam == nil {
		return 0
	}
	return r.beam.PID()
}

// URL returns the AMQP address of the default virtual host.
func (r *RabbitMQInstance) URL() string {
	return "amqp://" + rabbitmqUser + ":" + rabbitmqUser + "@" + r.ports.amqp.Address() + "/"
}

// Address returns host:port of the AMQP listener.
func (r *RabbitMQInstance) Address() string { return r.ports.amqp.Address() }

// ManagementURL returns the address of the management API and console, with
// user and password, without a path.
func (r *RabbitMQInstance) ManagementURL() string {
	return "http://" + rabbitmqUser + ":" + rabbitmqUser + "@" + r.ports.management.Address()
}

// Broker returns the addresses of the broker.
func (r *RabbitMQInstance) Broker() Broker {
	return Broker{AMQP: r.URL(), Management: r.ManagementURL()}
}

// Ports returns the numbers of the broker's ports, in the fields of the options
// that would ask for the same ones.
func (r *RabbitMQInstance) Ports() RabbitMQOptions {
	return RabbitMQOptions{
		Port: r.ports.amqp.Number(), ManagementPort: r.ports.management.Number(),
		DistPort: r.ports.dist.Number(), EPMDPort: r.ports.epmd.Number(),
	}
}

// Dir returns the directory with data, logs and configuration.
func (r *RabbitMQInstance) Dir() string { return r.dir }

// Processes returns the broker and its port mapper.
func (r *RabbitMQInstance) Processes() (broker, epmd *Process) { return r.beam, r.epmd }

// Ctl runs rabbitmqctl against the broker, which must be running, and returns
// what it printed. It blocks for half a second or more.
func (r *RabbitMQInstance) Ctl(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(r.bin, "rabbitmqctl"), args...)
	cmd.Env, cmd.Dir = r.environment(), r.dir
	cmd.WaitDelay = 2 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("rabbitmqctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// Detach lets the broker outlive this process, which until then takes it along
// however it ends. From now on the ports are kept by being used alone.
func (r *RabbitMQInstance) Detach() error {
	g := r.guard
	r.guard = nil
	r.ports.release()
	return g.dismiss()
}

// Close kills what still runs, removes a temporary directory and gives the
// ports back. For an orderly end call Stop before it.
func (r *RabbitMQInstance) Close() error {
	var errs []error
	for _, p := range []*Process{r.beam, r.epmd} {
		if p != nil {
			errs = append(errs, p.Kill())
		}
	}
	errs = append(errs, closeInstance(r.guard, r.removable()))
	r.ports.release()
	return errors.Join(errs...)
}

func (r *RabbitMQInstance) path(elem ...string) string {
	return filepath.Join(append([]string{r.dir}, elem...)...)
}

// closeInstance removes the directory of an instance whose processes have ended.
func closeInstance(g *guard, dir string) error {
	var err error
	if g != nil {
		err = errors.Join(g.watch(), g.release())
	}
	if dir == "" {
		return err
	}
	// The Erlang machine's helper processes end a moment after it and may still write.
	if !soon(func() bool { return os.RemoveAll(dir) == nil }) {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

// RabbitMQAnswers reports whether a broker on this port of 127.0.0.1 begins an
// AMQP handshake. It blocks for a second at most.
func RabbitMQAnswers(ctx context.Context, port int) bool {
	return answers(ctx, port, "AMQP\x00\x00\x09\x01", 1)
}

// RedisAnswers reports whether a Redis on this port of 127.0.0.1 answers a ping,
// which it does not while it loads its data. It blocks for a second at most.
func RedisAnswers(ctx context.Context, port int) bool {
	return answers(ctx, port, "PING\r\n", '+')
}

// answers reports whether a server on this port accepts a connection and answers
// the greeting with this first byte; an empty greeting expects none.
func answers(ctx context.Context, port int, greeting string, first byte) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", loopback(port))
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	if greeting == "" {
		return true
	}
	deadline, _ := ctx.Deadline()
	if conn.SetDeadline(deadline) != nil {
		return false
	}
	if _, err := io.WriteString(conn, greeting); err != nil {
		return false
	}
	got := make([]byte, 1)
	_, err = io.ReadFull(conn, got)
	return err == nil && got[0] == first
}

// started says how the wait for a server has ended, with what its log says
// unless it was the caller who gave up.
func started(name string, p *Process, log string, err error) error {
	switch {
	case err == nil && p.Alive():
		return nil
	case err == nil:
		err = errors.New("it ended")
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("start %s: %w", name, err)
	}
	return fmt.Errorf("start %s: %w, see %s%s", name, err, log, excerpt(log))
}

// excerpt returns what a log says that an error message should: from the first
// error on, or else the end.
func excerpt(path string) string {
	log, err := os.ReadFile(path)
	if err != nil || len(log) == 0 {
		return ""
	}
	const limit = 2000
	if i := bytes.Index(log, []byte("[error]")); i >= 0 {
		log = log[i:min(len(log), i+limit)]
	}
	return "\n" + string(log[max(0, len(log)-limit):])
}
