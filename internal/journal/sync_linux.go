package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// syncAlways: the barrier syncs, so the server need not.
const syncAlways = false

// newSync returns what the barrier runs: syncfs where the journal is the root
// of a volume of its own, else an fsync of every changed file.
func newSync(dir string) (func() error, error) {
	own, err := ownVolume(dir)
	if err != nil {
		return nil, err
	}
	if !own || !syncfsReportsErrors() {
		return newFileSync(dir).sync, nil
	}
	// Held open for good: the kernel reports each write error once to every
	// file that was open when it happened.
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	return func() error {
		if err := unix.Syncfs(int(d.Fd())); err != nil {
			return fmt.Errorf("syncfs: %w", err)
		}
		return nil
	}, nil
}

// ownVolume says whether dir is where a volume is mounted.
func ownVolume(dir string) (bool, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false, err
	}
	var d, up unix.Stat_t
	if err := unix.Stat(dir, &d); err != nil {
		return false, err
	}
	if err := unix.Stat(filepath.Join(dir, ".."), &up); err != nil {
		return false, err
	}
	return d.Dev != up.Dev, nil
}

// syncfsReportsErrors: before Linux 5.8 syncfs hid failed writes.
func syncfsReportsErrors() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); err != nil {
		return false
	}
	return major > 5 || major == 5 && minor >= 8
}

// fileSync syncs the files and folders below dir that changed since it last
// looked. Its fields belong to the goroutine that calls sync.
type fileSync struct {
	dir   string
	fsync func(path string) error
	now   func() time.Time
	// known is how each path looked when its last sync began.
	known map[string]stamp
	// entries are the names in a folder, read again when its stamp changes.
	entries map[string][]entry
}

type stamp struct {
	size         int64
	mtime, ctime syscall.Timespec
	ino          uint64
}

type entry struct {
	path   string
	folder bool
}

func newFileSync(dir string) *fileSync {
	return &fileSync{
		dir:     dir,
		fsync:   syncPath,
		now:     time.Now,
		known:   make(map[string]stamp),
		entries: make(map[string][]entry),
	}
}

// settle is how long a change may hide from a stamp: the kernel's clock for
// files ticks up to every 10 ms, so a second change in one tick leaves the
// same time. A path this young is synced again the next time.
const settle = 50 * time.Millisecond

// sync puts on disk what was written before the call. The state of a path is
// taken before its fsync, so a write in between is seen the next time. Files
// come before the folders that name them.
func (f *fileSync) sync() error {
	// A file that vanishes between the look and the fsync was renamed or is
	// gone; a second look finds its new name. The server makes files under
	// their own name before it acknowledges what they hold, so the bound only
	// leaves out temporary files.
	for range 3 {
		w := &walk{fileSync: f, seen: make(map[string]bool, len(f.known))}
		if err := w.folder(f.dir); err != nil {
			return err
		}
		vanished, err := w.flush()
		if err != nil {
			return err
		}
		if !vanished {
			if len(f.known) > len(w.seen) {
				w.forget()
			}
			return nil
		}
	}
	return nil
}

type change struct {
	path  string
	stamp stamp
	young bool
}

// walk is one look at all files.
type walk struct {
	*fileSync
	seen    map[string]bool
	files   []change
	folders []change // deepest last
}

func (w *walk) folder(path string) error {
	changed, err := w.look(path, &w.folders)
	if err != nil {
		return gone(err)
	}
	entries, ok := w.entries[path]
	if changed || !ok {
		list, err := os.ReadDir(path)
		if err != nil {
			return gone(err)
		}
		entries = make([]entry, 0, len(list))
		for _, e := range list {
			if e.IsDir() || e.Type().IsRegular() {
				entries = append(entries, entry{filepath.Join(path, e.Name()), e.IsDir()})
			}
		}
		w.entries[path] = entries
	}
	for _, e := range entries {
		if e.folder {
			if err := w.folder(e.path); err != nil {
				return err
			}
		} else if _, err := w.look(e.path, &w.files); gone(err) != nil {
			return err
		}
	}
	return nil
}

// look compares a path with how it was, and lists it when it changed.
func (w *walk) look(path string, list *[]change) (changed bool, err error) {
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		return false, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	w.seen[path] = true
	s := stamp{size: st.Size, mtime: st.Mtim, ctime: st.Ctim, ino: st.Ino}
	if was, ok := w.known[path]; ok && was == s {
		return false, nil
	}
	young := w.now().Sub(time.Unix(st.Ctim.Unix())) < settle
	*list = append(*list, change{path, s, young})
	return true, nil
}

// flush syncs what changed, files before folders, inner folders first.
func (w *walk) flush() (vanished bool, err error) {
	for i, j := 0, len(w.folders)-1; i < j; i, j = i+1, j-1 {
		w.folders[i], w.folders[j] = w.folders[j], w.folders[i]
	}
	for _, list := range [][]change{w.files, w.folders} {
		errs := make([]error, len(list))
		// Syncs at the same time share one commit of the file system.
		var g errgroup.Group
		g.SetLimit(8)
		for i, c := range list {
			g.Go(func() error {
				errs[i] = w.fsync(c.path)
				return nil
			})
		}
		g.Wait()
		for i, c := range list {
			switch {
			case errors.Is(errs[i], fs.ErrNotExist):
				vanished = true
			case errs[i] != nil:
				return false, errs[i]
			case c.young:
				delete(w.known, c.path)
			default:
				w.known[c.path] = c.stamp
			}
		}
	}
	return vanished, nil
}

// forget drops what is no longer there.
func (w *walk) forget() {
	for path := range w.known {
		if !w.seen[path] {
			delete(w.known, path)
			delete(w.entries, path)
		}
	}
}

// gone takes a vanished path for an empty one.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// freeBytes is what the volume of dir offers to us.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}
