// Command release builds what is given to others: the programs for every
// platform, in an archive each, and their checksums. The same commit gives the
// same bytes, wherever it is built.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

type command struct {
	Version   string   `required:"" help:"Version, such as 0.1.0; CHANGELOG.md has to have it, unless it is one like 0.1.0-rc.1."`
	Platforms []string `default:"linux/amd64,linux/arm64,darwin/amd64,darwin/arm64" help:"What to build for."`
	Out       string   `default:"dist" type:"path" help:"Directory for the archives."`
	Check     bool     `help:"Build once more, from a copy elsewhere and without what was compiled before, and compare."`
}

const (
	// tags leave out gRPC's own traces, which would double our programs: see
	// docs/decisions/0031-no-methods-by-name.md.
	tags = "grpcnotrace"
	// imageTags are those of deploy/docker/Dockerfile: an image has no servers
	// for lovage dev to start.
	imageTags = tags + ",nodev"
	// largest is how many bytes a program may have in an image, which is to stay
	// below 25,000,000: the files beside it have some 2,000,000.
	largest = 23_000_000
)

// programs are what an archive has, beside the documents.
func programs() []string { return []string{"./services/gateway", "./services/worker", "./cmd/lovage"} }

func documents() []string { return []string{"CHANGELOG.md", "LICENSE", "README.md"} }

func main() {
	var c command
	k := kong.Parse(&c, kong.Name("release"), kong.Description("Builds the archives of a release."))
	k.FatalIfErrorf(c.run(context.Background()))
}

func (c command) run(ctx context.Context) error {
	if !regexp.MustCompile(`^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`).MatchString(c.Version) {
		return fmt.Errorf("--version: %q is not of the form 1.2.3 or 1.2.3-rc.1", c.Version)
	}
	if err := c.noted("CHANGELOG.md"); err != nil {
		return err
	}
	b, err := newBuild(ctx, ".", c.Version)
	if err != nil {
		return err
	}
	if changed, err := b.command(ctx, "git", "status", "--porcelain").Output(); err != nil || len(changed) > 0 && !c.trial() {
		return errors.Join(err, fmt.Errorf("the checkout differs from commit %s: commit or stash\n%s", b.commit, changed))
	}
	sums, err := b.all(ctx, c.Platforms, c.Out)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(c.Out, "SHA256SUMS"), sums, 0o644); err != nil { //nolint:gosec // everybody may read it
		return err
	}
	_, _ = os.Stdout.Write(sums)
	if !c.Check {
		return nil
	}
	if err := b.small(ctx); err != nil {
		return err
	}
	again, err := b.again(ctx, c.Platforms)
	if err != nil {
		return err
	}
	if !bytes.Equal(sums, again) {
		return fmt.Errorf("the second build differs:\n%s", again)
	}
	_, _ = fmt.Fprintln(os.Stdout, "the second build is the same")
	return nil
}

// trial is a version that is not for everybody.
func (c command) trial() bool { return strings.Contains(c.Version, "-") }

// noted wants a heading for the version in the changelog.
func (c command) noted(path string) error {
	text, err := os.ReadFile(path)
	if err != nil || c.trial() {
		return err
	}
	if !regexp.MustCompile(`(?m)^## ` + regexp.QuoteMeta(c.Version) + `\b`).Match(text) {
		return fmt.Errorf("%s has no heading \"## %s\": give what is under Unreleased its version and its date", path, c.Version)
	}
	return nil
}

// build is one commit in a directory.
type build struct {
	dir     string
	version string
	commit  string
	time    time.Time
	env     []string
}

func newBuild(ctx context.Context, dir, version string) (build, error) {
	b := build{dir: dir, version: version}
	out, err := b.command(ctx, "git", "log", "-1", "--format=%H %ct").Output()
	if err != nil {
		return b, fmt.Errorf("ask git for the commit: %w", err)
	}
	commit, stamp, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return b, fmt.Errorf("read the time of the commit: %w", err)
	}
	b.commit, b.time = commit[:12], time.Unix(seconds, 0).UTC()
	return b, nil
}

func (b build) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stderr = b.dir, os.Stderr
	cmd.Env = append(os.Environ(), b.env...)
	return cmd
}

// all builds every platform into out and returns the checksums.
func (b build) all(ctx context.Context, platforms []string, out string) ([]byte, error) {
	if err := os.MkdirAll(out, 0o755); err != nil { //nolint:gosec // everybody may read it
		return nil, err
	}
	var sums bytes.Buffer
	for _, platform := range slices.Sorted(slices.Values(platforms)) {
		archive, err := b.archive(ctx, platform)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", platform, err)
		}
		name := fmt.Sprintf("lovage_%s_%s.tar.gz", b.version, strings.ReplaceAll(platform, "/", "_"))
		if err := os.WriteFile(filepath.Join(out, name), archive, 0o644); err != nil { //nolint:gosec // everybody may read it
			return nil, err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(archive), name)
	}
	return sums.Bytes(), nil
}

// archive builds the programs for one platform and packs them with the documents,
// all as of the time of the commit.
func (b build) archive(ctx context.Context, platform string) (packed []byte, err error) {
	bin, err := os.MkdirTemp("", "lovage-release-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(bin)) }()
	if err := b.compile(ctx, platform, tags, bin); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	to := tar.NewWriter(zip)
	for _, program := range programs() {
		name := filepath.Base(program)
		err = errors.Join(err, b.add(to, filepath.Join(bin, name), name, 0o755))
	}
	for _, name := range documents() {
		err = errors.Join(err, b.add(to, filepath.Join(b.dir, name), name, 0o644))
	}
	if err := errors.Join(err, to.Close(), zip.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// compile builds the programs for one platform into the directory bin.
func (b build) compile(ctx context.Context, platform, tags, bin string) error {
	system, processor, found := strings.Cut(platform, "/")
	if !found {
		return errors.New("is not of the form linux/amd64")
	}
	const variables = "github.com/lovage-mq/lovage/internal/version."
	args := []string{
		"build", "-trimpath", "-buildvcs=false", "-tags=" + tags, "-o", bin + "/",
		"-ldflags=-s -w -buildid= -X " + variables + "release=" + b.version + " -X " + variables + "commit=" + b.commit,
	}
	cmd := b.command(ctx, "go", append(args, programs()...)...)
	cmd.Env = append(cmd.Env, "CGO_ENABLED=0", "GOFLAGS=", "GOOS="+system, "GOARCH="+processor)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go build: %w", err)
	}
	return nil
}

// small says which programs are too large for their images.
func (b build) small(ctx context.Context) (err error) {
	bin, err := os.MkdirTemp("", "lovage-images-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(bin)) }()
	if err := b.compile(ctx, "linux/amd64", imageTags, bin); err != nil {
		return err
	}
	for _, program := range programs() {
		name := filepath.Base(program)
		info, statErr := os.Stat(filepath.Join(bin, name))
		if statErr != nil {
			return statErr
		}
		_, _ = fmt.Fprintf(os.Stdout, "%s has %d bytes in its image\n", name, info.Size())
		if info.Size() > largest {
			err = errors.Join(err, fmt.Errorf("%s has %d bytes and may have %d in an image: docs/decisions/0031-no-methods-by-name.md has the usual cause", name, info.Size(), largest))
		}
	}
	return err
}

func (b build) add(to *tar.Writer, path, name string, mode int64) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	header := tar.Header{Name: "lovage_" + b.version + "/" + name, Mode: mode, Size: int64(len(text)), ModTime: b.time, Format: tar.FormatPAX}
	if err := to.WriteHeader(&header); err != nil {
		return err
	}
	_, err = to.Write(text)
	return err
}

// again builds from a copy of the sources with an empty build cache.
func (b build) again(ctx context.Context, platforms []string) (sums []byte, err error) {
	dir, err := os.MkdirTemp("", "lovage-again-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	sources := filepath.Join(dir, "sources")
	if err := os.CopyFS(sources, sourcesOnly{os.DirFS(b.dir)}); err != nil {
		return nil, fmt.Errorf("copy the sources: %w", err)
	}
	b.dir, b.env = sources, []string{"GOCACHE=" + filepath.Join(dir, "cache")}
	return b.all(ctx, platforms, filepath.Join(dir, "dist"))
}

// sourcesOnly is a checkout without what is made in it.
type sourcesOnly struct{ fs.FS }

// ReadDir implements [fs.ReadDirFS].
func (s sourcesOnly) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(s.FS, name)
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
		return name == "." && slices.Contains([]string{".git", ".cache", ".run", "bin", "dist", "bench"}, e.Name())
	}), err
}
