package journal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// changedFiles syncs what has changed below a directory since the last sync.
type changedFiles struct {
	dir   string
	seen  map[string]stamp // owned by sync
	fsync func(path string) error
}

// stamp is what tells a changed file: appends change the size, replacements
// the inode, rewrites in place the times.
type stamp struct {
	size         int64
	inode        uint64
	mtime, ctime time.Time
}

func newChangedFiles(dir string) *changedFiles {
	return &changedFiles{dir: dir, seen: map[string]stamp{}, fsync: fsyncPath}
}

// racy is how long after its last change a file is synced again although its
// stamp is the same: the clock of file times ticks slowly, and two changes may
// share a tick.
const racy = 20 * time.Millisecond

// sync makes every change that was written before the call durable. Files come
// before the directories that name them.
func (c *changedFiles) sync() error {
	var dirs []string
	now := time.Now()
	present := make(map[string]bool, len(c.seen))
	err := filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone meanwhile
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if !info.IsDir() && !info.Mode().IsRegular() {
			return nil
		}
		present[path] = true
		st := stampOf(info)
		if c.seen[path] == st && now.Sub(st.mtime) > racy {
			return nil
		}
		// Noted before the sync: what is written after this is synced next time.
		c.seen[path] = st
		if info.IsDir() {
			dirs = append(dirs, path)
			return nil
		}
		return c.flush(path)
	})
	if err != nil {
		return err
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		if err := c.flush(dirs[i]); err != nil {
			return err
		}
	}
	for path := range c.seen {
		if !present[path] {
			delete(c.seen, path)
		}
	}
	return nil
}

func (c *changedFiles) flush(path string) error {
	if err := c.fsync(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func stampOf(info fs.FileInfo) stamp {
	s := stamp{size: info.Size(), mtime: info.ModTime()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode = sys.Ino
		s.ctime = time.Unix(sys.Ctim.Unix())
	}
	return s
}

func fsyncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// ownVolume says whether a directory is the root of a file system.
func ownVolume(dir string) bool {
	var here, above unix.Stat_t
	if unix.Stat(dir, &here) != nil || unix.Stat(filepath.Dir(filepath.Clean(dir)), &above) != nil {
		return false
	}
	return here.Dev != above.Dev
}

// syncVolume syncs the whole file system of a directory.
func syncVolume(dir string) func() error {
	return func() error {
		f, err := os.Open(dir)
		if err != nil {
			return err
		}
		defer f.Close()
		return unix.Syncfs(int(f.Fd()))
	}
}

// boundOf is four fifths of what is free, plus what the journal already has.
func boundOf(dir string) int64 {
	const least = 256 << 20
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return least
	}
	var used int64
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				used += info.Size()
			}
		}
		return nil
	})
	return max(least, int64(st.Bavail)*st.Bsize/5*4+used)
}
