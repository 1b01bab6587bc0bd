package access

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// longestFile bounds the file of the keys.
const longestFile = 16 << 20

// File keeps keys in a file, which holds nothing that lets anybody in.
type File struct{ Path string }

// Load implements [Store]. Its version is that of the file as the file system
// tells it.
func (f File) Load(_ context.Context, have string) ([]Key, string, error) {
	info, err := os.Stat(f.Path)
	if err != nil {
		return nil, "", fmt.Errorf("API keys: %w", err)
	}
	version := strconv.FormatInt(info.ModTime().UnixNano(), 36) + "." + strconv.FormatInt(info.Size(), 36) + "." + inode(info)
	if version == have {
		return nil, version, nil
	}
	keys, err := f.read()
	return keys, version, err
}

func (f File) read() ([]Key, error) {
	info, err := os.Stat(f.Path)
	if err == nil && info.Size() > longestFile {
		err = fmt.Errorf("%s has %d bytes, and %d are allowed", f.Path, info.Size(), longestFile)
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(f.Path)
	}
	if err != nil {
		return nil, fmt.Errorf("API keys: %w", err)
	}
	keys, err := decodeKeys(text)
	if err == nil && len(keys) > mostKeys {
		err = fmt.Errorf("%d keys, and %d are allowed", len(keys), mostKeys)
	}
	if err != nil {
		return nil, fmt.Errorf("API keys in %s: %w", f.Path, err)
	}
	return keys, nil
}

// Save implements [Store]. The file need not exist. Others see it as it was or
// as it will be, and only its owner may read a new one.
func (f File) Save(_ context.Context, keys ...Key) error {
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	defer unlock()
	list, err := f.read()
	if errors.Is(err, fs.ErrNotExist) {
		list, err = nil, nil
	}
	if err != nil {
		return err
	}
	if list, err = merge(list, keys, time.Now()); err != nil {
		return err
	}
	text, err := encodeKeys(list)
	if err == nil {
		err = replace(f.Path, text)
	}
	if err != nil {
		return fmt.Errorf("write API keys: %w", err)
	}
	return nil
}

// lock keeps other processes from changing the file, which is why it is not the
// file itself that is locked: that one is replaced.
func (f File) lock() (unlock func(), err error) {
	l, err := os.OpenFile(f.Path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the API keys: %w", err)
	}
	if err := syscall.Flock(int(l.Fd()), syscall.LOCK_EX); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("lock the API keys: %w", err)
	}
	return func() { _ = l.Close() }, nil
}

func replace(path string, text []byte) error {
	mode := fs.FileMode(0o600)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	next, err := os.CreateTemp(filepath.Dir(path), ".lovage-keys-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(next.Name()) }()
	_, err = next.Write(text)
	err = errors.Join(err, next.Chmod(mode), next.Sync(), next.Close())
	if err != nil {
		return err
	}
	return os.Rename(next.Name(), path)
}

func inode(info fs.FileInfo) string {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return strconv.FormatUint(s.Ino, 36)
	}
	return ""
}
