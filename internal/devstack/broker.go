package devstack

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// BrokerVariable names the environment variable with which `devstack test` hands
// its broker to the test binaries. The value is a [Broker] as JSON.
const BrokerVariable = "LOVAGE_TEST_RABBITMQ"

// Broker is the address of a RabbitMQ whose virtual hosts can be made and
// deleted through its management API.
type Broker struct {
	AMQP       string `json:"amqp"`       // with user and password
	Management string `json:"management"` // likewise, without a path
}

// ParseBroker reads what [Broker.String] wrote.
func ParseBroker(s string) (Broker, error) {
	var b Broker
	if err := json.Unmarshal([]byte(s), &b); err != nil {
		return Broker{}, fmt.Errorf("read %s: %w", BrokerVariable, err)
	}
	if b.AMQP == "" || b.Management == "" {
		return Broker{}, fmt.Errorf("read %s: amqp and management are both needed", BrokerVariable)
	}
	return b, nil
}

// String returns the broker as JSON.
func (b Broker) String() string {
	out, _ := json.Marshal(b) // Two strings always encode.
	return string(out)
}

// VHostURL returns the AMQP address of a virtual host.
func (b Broker) VHostURL(name string) string {
	return strings.TrimSuffix(b.AMQP, "/") + "/" + url.PathEscape(name)
}

// CreateVHost makes a virtual host that the broker's user may use. It blocks
// until it is there.
func (b Broker) CreateVHost(ctx context.Context, name string) error {
	if err := b.call(ctx, http.MethodPut, "/api/vhosts/"+url.PathEscape(name), "{}"); err != nil {
		return fmt.Errorf("create virtual host: %w", err)
	}
	const all = `{"configure":".*","write":".*","read":".*"}`
	if err := b.call(ctx, http.MethodPut, "/api/permissions/"+url.PathEscape(name)+"/"+rabbitmqUser, all); err != nil {
		return fmt.Errorf("create virtual host: %w", err)
	}
	return nil
}

// DeleteVHost deletes a virtual host with everything in it and closes its
// connections. It blocks until it is gone.
func (b Broker) DeleteVHost(ctx context.Context, name string) error {
	if err := b.call(ctx, http.MethodDelete, "/api/vhosts/"+url.PathEscape(name), ""); err != nil {
		return fmt.Errorf("delete virtual host: %w", err)
	}
	return nil
}

// call makes one request on a connection of its own, so that no idle connection
// is left behind for a leak detector to find.
func (b Broker) call(ctx context.Context, method, path, body string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, b.Management+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= http.StatusMultipleChoices {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	return nil
}
