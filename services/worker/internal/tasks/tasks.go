// Package tasks holds the tasks that the worker of this repository ships with:
// sleep_task, http_request, which lets an application in any language be the
// worker, and thumbnail, which does real work on a real file.
package tasks

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/lovage-mq/lovage/internal/outbound"
	"github.com/lovage-mq/lovage/pkg/worker"
)

// The values that [Config] takes where a field is zero.
const (
	DefaultSleepMax     = 300 * time.Second
	DefaultMaxBody      = 1 << 20
	DefaultMaxImage     = 10 << 20
	DefaultMaxThumbnail = 8 << 20
	DefaultMaxPixels    = 50_000_000
)

// Config says what the tasks may do. The zero value is usable: it allows no
// HTTP host at all.
type Config struct {
	// SleepMax is the longest sleep that this worker accepts; 300 s when zero.
	SleepMax time.Duration
	// HTTPAllow lists the hosts that http_request and thumbnail may call. An
	// entry is a host name, "*.example.com" for every name below it, an IP
	// address or a CIDR; all but the last can end in a port, and stand for
	// every port without one. A name must not lead to a private or reserved
	// address, unless the name is "localhost", the entry starts with
	// "private:", or another entry is that very address or a CIDR around it.
	HTTPAllow []string
	// MaxRequest and MaxResponse bound the bodies of http_request; 1 MiB when
	// zero.
	MaxRequest, MaxResponse int64
	// MaxImage bounds the file that thumbnail reads, 10 MiB when zero,
	// MaxThumbnail the one that it returns, 8 MiB when zero.
	MaxImage, MaxThumbnail int64
	// MaxPixels bounds the image that thumbnail decodes, and all images that
	// this process decodes at one moment together; 50 million when zero. A
	// pixel takes up to 16 bytes (a progressive JPEG).
	MaxPixels int64
	// Resolver looks up host names; nil for the system's.
	Resolver *net.Resolver
}

// Register gives w the built-in tasks. The error joins everything that is wrong
// with the config, each with the name of the setting.
func Register(w *worker.Worker, c Config) error {
	c = c.withDefaults()
	allow, err := outbound.ParseAllowList("LOVAGE_HTTP_ALLOW", c.HTTPAllow)
	if c.SleepMax < 0 {
		err = errors.Join(errors.New("LOVAGE_SLEEP_MAX: must be positive"), err)
	}
	if err != nil {
		return fmt.Errorf("built-in tasks: %w", err)
	}
	client := outbound.NewClient(allow, c.Resolver)

	worker.Handle(w, "sleep_task", newSleeper(c).run,
		worker.WithDescription("Sleeps for a number of seconds and reports its progress every second."))
	worker.Handle(w, "http_request", newRequester(c, allow, client).run,
		worker.WithDescription("Calls an HTTP endpoint. 2xx is the result; 408, 425, 429, 5xx, timeouts and connection errors are tried again, anything else fails for good."))
	worker.Handle(w, "thumbnail", newThumbnailer(c, allow, client).run,
		worker.WithDescription("Scales an image to fit into a box. Reads PNG, JPEG, GIF and WebP, writes PNG or JPEG."))
	return nil
}

func (c Config) withDefaults() Config {
	orDefault(&c.SleepMax, DefaultSleepMax)
	orDefault(&c.MaxRequest, DefaultMaxBody)
	orDefault(&c.MaxResponse, DefaultMaxBody)
	orDefault(&c.MaxImage, DefaultMaxImage)
	orDefault(&c.MaxThumbnail, DefaultMaxThumbnail)
	orDefault(&c.MaxPixels, DefaultMaxPixels)
	return c
}

func orDefault[T ~int64](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}
