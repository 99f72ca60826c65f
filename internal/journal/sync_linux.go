package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
	root  *node
	fsync func(path string) error
	now   func() time.Time
}

// node is a file or folder as it was when its last sync began.
type node struct {
	path     string
	stamp    stamp
	synced   bool             // stamp is on disk
	children map[string]*node // of a folder; nil of a file
	read     bool             // children are what stamp stands for
}

type stamp struct {
	size         int64
	mtime, ctime syscall.Timespec
	ino          uint64
}

func newFileSync(dir string) *fileSync {
	return &fileSync{
		root:  &node{path: dir, children: make(map[string]*node)},
		fsync: syncPath,
		now:   time.Now,
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
	// A path that vanishes on the way was renamed or is gone. Another look
	// finds its new name, which may hold what was acknowledged: the server
	// rewrites a block beside it and renames.
	for range 1000 {
		var c changes
		if err := f.look(f.root, &c); err != nil {
			return err
		}
		if err := f.flush(&c); err != nil {
			return err
		}
		if !c.vanished {
			return nil
		}
	}
	return errors.New("files of the journal keep vanishing")
}

// changes is what one look found.
type changes struct {
	files    []change
	folders  []change // deepest last
	vanished bool     // a path went away during the look or the syncs
}

type change struct {
	node  *node
	young bool
}

// look finds what changed in and below n.
func (f *fileSync) look(n *node, c *changes) error {
	var st syscall.Stat_t
	if err := syscall.Lstat(n.path, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: n.path, Err: err}
	}
	now := stamp{size: st.Size, mtime: st.Mtim, ctime: st.Ctim, ino: st.Ino}
	if !n.synced || n.stamp != now {
		n.stamp, n.synced, n.read = now, false, false
		young := f.now().Sub(time.Unix(st.Ctim.Unix())) < settle
		if n.children == nil {
			c.files = append(c.files, change{n, young})
		} else {
			c.folders = append(c.folders, change{n, young})
		}
	}
	if n.children == nil {
		return nil
	}
	if !n.read {
		if err := n.list(); err != nil {
			return err
		}
	}
	for _, child := range n.children {
		err := f.look(child, c)
		if errors.Is(err, fs.ErrNotExist) {
			// The folder's stamp may be from before: its names are read again.
			c.vanished, n.read = true, false
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// list reads the names in a folder again and keeps what is known of them.
func (n *node) list() error {
	list, err := os.ReadDir(n.path)
	if err != nil {
		return err
	}
	children := make(map[string]*node, len(list))
	for _, e := range list {
		child := n.children[e.Name()]
		if child == nil || (child.children != nil) != e.IsDir() {
			child = &node{path: filepath.Join(n.path, e.Name())}
			if e.IsDir() {
				child.children = make(map[string]*node)
			}
		}
		if e.IsDir() || e.Type().IsRegular() {
			children[e.Name()] = child
		}
	}
	n.children, n.read = children, true
	return nil
}

// flush syncs what changed, files before folders, inner folders first.
func (f *fileSync) flush(found *changes) error {
	slices.Reverse(found.folders)
	for _, list := range [][]change{found.files, found.folders} {
		errs := make([]error, len(list))
		// Syncs at the same time share one commit of the file system.
		var g errgroup.Group
		g.SetLimit(8)
		for i, c := range list {
			g.Go(func() error {
				errs[i] = f.fsync(c.node.path)
				return nil
			})
		}
		g.Wait()
		for i, c := range list {
			switch {
			case errors.Is(errs[i], fs.ErrNotExist):
				found.vanished = true
			case errs[i] != nil:
				return errs[i]
			default:
				c.node.synced = !c.young
			}
		}
	}
	return nil
}

// freeBytes is what the volume of dir offers to us.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}
