package devstack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ErrNotInstalled is returned when a program that is needed is not installed.
var ErrNotInstalled = errors.New("not installed")

// rabbitmqPorts are the ports of one node.
type rabbitmqPorts struct{ amqp, management, dist, epmd *Port }

func reserveRabbitMQ(ctx context.Context, o RabbitMQOptions) (rabbitmqPorts, error) {
	var p rabbitmqPorts
	for _, want := range []struct {
		port   **Port
		number int
	}{{&p.amqp, o.Port}, {&p.management, o.ManagementPort}, {&p.dist, o.DistPort}, {&p.epmd, o.EPMDPort}} {
		var err error
		if *want.port, err = ReservePort(ctx, want.number); err != nil {
			p.release()
			return rabbitmqPorts{}, err
		}
	}
	return p, nil
}

func (p rabbitmqPorts) release() {
	for _, port := range []*Port{p.amqp, p.management, p.dist, p.epmd} {
		port.Release()
	}
}

// RabbitMQPrograms returns the directory of RabbitMQ's own scripts, or an error
// that wraps [ErrNotInstalled]. Debian's programs of the same names in /usr/sbin
// change to another user and forget the environment.
func RabbitMQPrograms() (string, error) {
	dirs := []string{"/usr/lib/rabbitmq/bin", "/opt/rabbitmq/sbin", "/opt/homebrew/opt/rabbitmq/sbin", "/usr/local/opt/rabbitmq/sbin"}
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, "rabbitmq-server")); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("rabbitmq-server: %w", ErrNotInstalled)
}

// RedisProgram returns the path of redis-server, or an error that wraps
// [ErrNotInstalled].
func RedisProgram() (string, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return "", fmt.Errorf("redis-server: %w", ErrNotInstalled)
	}
	return path, nil
}

// writeRabbitMQFiles writes the configuration, the list of plugins and the
// cookie. A cookie that is there stays, since it belongs to the node's data.
func writeRabbitMQFiles(dir string, p rabbitmqPorts, more string) error {
	for _, sub := range []string{"home", "data", "log"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return fmt.Errorf("make directory of rabbitmq: %w", err)
		}
	}
	conf := fmt.Sprintf(`listeners.tcp.1 = %s
management.tcp.ip = 127.0.0.1
management.tcp.port = %d
loopback_users = none
log.console = false
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 50MB
raft.wal_max_size_bytes = 64000000
%s
`, p.amqp.Address(), p.management.Number(), more)
	files := map[string]string{"rabbitmq.conf": conf, "enabled_plugins": "[rabbitmq_management].\n", "advanced.config": "[].\n"}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return fmt.Errorf("write configuration of rabbitmq: %w", err)
		}
	}
	cookie := filepath.Join(dir, "home", ".erlang.cookie")
	if _, err := os.Stat(cookie); err == nil {
		return nil
	}
	if err := os.WriteFile(cookie, []byte(rand.Text()), 0o400); err != nil {
		return fmt.Errorf("write cookie of rabbitmq: %w", err)
	}
	return nil
}

// environment is the whole environment of the node and of rabbitmqctl. Settings
// of another RabbitMQ in ours must not reach it.
func (r *RabbitMQInstance) environment() []string {
	const localOnly = "-kernel inet_dist_use_interface {127,0,0,1}"
	return append(bareEnvironment(),
		"HOME="+r.path("home"),
		"RABBITMQ_NODENAME=lovage@localhost",
		"RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
		fmt.Sprint("RABBITMQ_NODE_PORT=", r.ports.amqp.Number()),
		fmt.Sprint("RABBITMQ_DIST_PORT=", r.ports.dist.Number()),
		"RABBITMQ_MNESIA_BASE="+r.path("data"),
		"RABBITMQ_LOG_BASE="+r.path("log"),
		"RABBITMQ_PID_FILE="+r.path("pid"),
		"RABBITMQ_CONF_ENV_FILE=/dev/null",
		"RABBITMQ_CONFIG_FILE="+r.path("rabbitmq.conf"),
		"RABBITMQ_ADVANCED_CONFIG_FILE="+r.path("advanced.config"),
		"RABBITMQ_ENABLED_PLUGINS_FILE="+r.path("enabled_plugins"),
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+localOnly,
		"RABBITMQ_CTL_ERL_ARGS="+localOnly,
		// Above the ports that the kernel gives to outgoing connections.
		"RABBITMQ_CTL_DIST_PORT_MIN=61000", "RABBITMQ_CTL_DIST_PORT_MAX=64999",
		fmt.Sprint("ERL_EPMD_PORT=", r.ports.epmd.Number()),
		"ERL_EPMD_ADDRESS=127.0.0.1",
		"ERL_CRASH_DUMP_SECONDS=0",
		// The port mapper is ours. A helper of a node that was killed while it
		// started could otherwise start one that stays.
		"ERL_FLAGS=-start_epmd false",
		// The start script then becomes the Erlang machine instead of waiting for
		// it, so the pid that we start is the pid that serves.
		"RUNNING_UNDER_SYSTEMD=true",
	)
}

// bareEnvironment is what a server needs of our environment.
func bareEnvironment() []string {
	env := []string{"LANG=C.UTF-8", "LC_ALL=C.UTF-8"}
	for _, e := range os.Environ() {
		name, _, _ := strings.Cut(e, "=")
		if name == "PATH" || name == "TMPDIR" || name == "TZ" || name == "USER" {
			env = append(env, e)
		}
	}
	return env
}
