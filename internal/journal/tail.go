package journal

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// The server cuts a stream off at the first record that it cannot read in the
// last block, and says that all is well: reports would be gone and their keys
// free again. So the journal notes how far each stream was durable, and Open
// refuses a stream that ends before.

const (
	tailFile = "minato-tail"     // in storeDir
	tailHead = "minato tail 1\n" // followed by "STREAM SEQ" lines and a MAC
	// tailEvery is how old the note may get while the hub works: what was
	// appended after it and then damaged is not missed.
	tailEvery = time.Second
)

// positions maps streams of kind once to a sequence.
type positions map[Stream]uint64

// tail is the note. All but acked belong to the barrier's goroutine, and to
// Open and Close before it begins and after it ended.
type tail struct {
	dir     string
	key     []byte
	acked   map[Stream]*atomic.Uint64 // last sequence that the server gave
	durable positions                 // on disk since the last sync
	written positions
	at      time.Time // when it was written
}

func newTail(dir string, key []byte, at positions) *tail {
	t := &tail{dir: dir, key: derive(key, "minato journal tail"), acked: make(map[Stream]*atomic.Uint64)}
	for name, s := range streams {
		if s.kind == once {
			t.acked[name] = new(atomic.Uint64)
			t.acked[name].Store(at[name])
		}
	}
	return t
}

// reach notes an answer of the server.
func (t *tail) reach(s Stream, seq uint64) {
	a := t.acked[s]
	if a == nil {
		return
	}
	for old := a.Load(); seq > old && !a.CompareAndSwap(old, seq); old = a.Load() {
	}
}

// around makes flush keep the note. What is noted was durable before flush
// began: a power cut may leave the note without the records that it is about
// to put on disk, never the reverse.
func (t *tail) around(flush func() error) func() error {
	return func() error {
		if time.Since(t.at) >= tailEvery {
			if err := t.write(); err != nil {
				return err
			}
		}
		now := make(positions, len(t.acked))
		for s, a := range t.acked {
			now[s] = a.Load()
		}
		if err := flush(); err != nil {
			return err
		}
		t.durable = now
		return nil
	}
}

// write replaces the file. It is whole after a power cut, and durable with the
// next sync.
func (t *tail) write() error {
	if t.durable == nil || samePositions(t.durable, t.written) {
		return nil
	}
	path := filepath.Join(t.dir, tailFile)
	if err := os.WriteFile(path+".new", formatTail(t.key, t.durable), 0o600); err != nil {
		return fmt.Errorf("note the journal's end: %w", err)
	}
	if err := syncPath(path + ".new"); err != nil {
		return fmt.Errorf("note the journal's end: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("note the journal's end: %w", err)
	}
	t.written, t.at = t.durable, time.Now()
	return nil
}

// finish writes the last note for good.
func (t *tail) finish() error {
	if err := t.write(); err != nil {
		return err
	}
	return syncPath(t.dir)
}

func samePositions(a, b positions) bool {
	if len(a) != len(b) {
		return false
	}
	for s, n := range a {
		if m, ok := b[s]; !ok || m != n {
			return false
		}
	}
	return true
}

func formatTail(key []byte, p positions) []byte {
	lines := make([]string, 0, len(p))
	for s, n := range p {
		lines = append(lines, fmt.Sprintf("%s %d\n", s, n))
	}
	slices.Sort(lines)
	text := tailHead + strings.Join(lines, "")
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return fmt.Appendf([]byte(text), "%x\n", h.Sum(nil))
}

// checkTail refuses streams that end before they were durable.
func checkTail(dir string, key []byte, at positions) error {
	b, err := os.ReadFile(filepath.Join(dir, tailFile))
	if err != nil {
		return damaged("the note of where it ends cannot be read", "末尾の位置の記録を読めません", err)
	}
	noted := make(positions)
	lines := bytes.SplitAfter(bytes.TrimPrefix(b, []byte(tailHead)), []byte("\n"))
	for _, line := range lines {
		var name string
		var n uint64
		if _, err := fmt.Sscanf(string(line), "%s %d\n", &name, &n); err == nil {
			noted[Stream(name)] = n
		}
	}
	// What was read makes the very same file, or the file is not ours.
	if !hmac.Equal(b, formatTail(derive(key, "minato journal tail"), noted)) {
		return damaged("the note of where it ends was changed", "末尾の位置の記録が書き換えられています", errors.New(tailFile))
	}
	for s, n := range noted {
		if at[s] < n {
			return damaged(fmt.Sprintf("stream %s ends at %d and held %d records", s, at[s], n),
				fmt.Sprintf("%s の記録が %d 件中 %d 件目で終わっています", s, n, at[s]), nil)
		}
	}
	return nil
}
