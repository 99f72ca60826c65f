package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// watched is a fileSync that notes what it syncs, and takes every change for
// old enough to be believed.
func watched(dir string) (f *fileSync, synced func() []string) {
	var mu sync.Mutex
	var paths []string
	f = newFileSync(dir)
	f.now = func() time.Time { return time.Now().Add(time.Hour) }
	f.fsync = func(path string) error {
		mu.Lock()
		rel, _ := filepath.Rel(dir, path)
		paths = append(paths, rel)
		mu.Unlock()
		return syncPath(path)
	}
	return f, func() []string {
		defer func() { paths = nil }()
		return paths
	}
}

func TestOnlyWhatChangedIsSyncedFilesBeforeFolders(t *testing.T) {
	dir := t.TempDir()
	write := func(name, data string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600))
	}
	write("a/1.blk", "x")
	write("a/1.key", "k")
	write("b/meta.inf", "m")
	f, synced := watched(dir)
	require.NoError(t, f.sync())
	got := synced()
	require.ElementsMatch(t, []string{"a/1.blk", "a/1.key", "b/meta.inf", "a", "b", "."}, got)
	require.ElementsMatch(t, []string{"a/1.blk", "a/1.key", "b/meta.inf"}, got[:3], "files first")

	require.NoError(t, f.sync())
	require.Empty(t, synced(), "nothing changed")

	write("a/1.blk", "xy")
	require.NoError(t, f.sync())
	require.Equal(t, []string{"a/1.blk"}, synced())

	write("a/2.blk", "new")
	require.NoError(t, f.sync())
	require.ElementsMatch(t, []string{"a/2.blk", "a"}, synced(), "a new file and the folder that names it")

	// Replaced by a file of the same size and time: another inode.
	info, err := os.Stat(filepath.Join(dir, "a/1.blk"))
	require.NoError(t, err)
	write("a/1.tmp", "zz")
	require.NoError(t, os.Chtimes(filepath.Join(dir, "a/1.tmp"), info.ModTime(), info.ModTime()))
	require.NoError(t, os.Rename(filepath.Join(dir, "a/1.tmp"), filepath.Join(dir, "a/1.blk")))
	require.NoError(t, f.sync())
	require.ElementsMatch(t, []string{"a/1.blk", "a"}, synced())

	require.NoError(t, os.RemoveAll(filepath.Join(dir, "b")))
	require.NoError(t, f.sync())
	require.Equal(t, []string{"."}, synced())
	require.NotContains(t, f.root.children, "b", "what is gone is forgotten")
	write("b/meta.inf", "m")
	require.NoError(t, f.sync())
	require.ElementsMatch(t, []string{"b/meta.inf", "b", "."}, synced())
}

func TestAWriteDuringTheSyncIsSyncedTheNextTime(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "1.blk")
	require.NoError(t, os.WriteFile(path, []byte("a"), 0o600))
	f, synced := watched(dir)
	inner := f.fsync
	f.fsync = func(p string) error {
		err := inner(p)
		if p == path { // after the disk took it, before the sync ends
			require.NoError(t, os.WriteFile(path, []byte("ab"), 0o600))
			f.fsync = inner
		}
		return err
	}
	require.NoError(t, f.sync())
	synced()
	require.NoError(t, f.sync())
	require.Equal(t, []string{"1.blk"}, synced())
}

func TestAYoungChangeIsSyncedAgainForTheClockIsCoarse(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "1.blk")
	require.NoError(t, os.WriteFile(path, []byte("a"), 0o600))
	f, synced := watched(dir)
	f.now = func() time.Time {
		info, err := os.Stat(path)
		require.NoError(t, err)
		return info.ModTime().Add(settle / 2)
	}
	require.NoError(t, f.sync())
	synced()
	require.NoError(t, f.sync())
	require.Contains(t, synced(), "1.blk", "a second write within one tick would look the same")
	f.now = func() time.Time { return time.Now().Add(time.Hour) }
	require.NoError(t, f.sync())
	synced()
	require.NoError(t, f.sync())
	require.Empty(t, synced())
}

func TestAFileThatVanishesIsLookedForUnderItsNewName(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "1.tmp"), []byte("a"), 0o600))
	f, synced := watched(dir)
	inner := f.fsync
	f.fsync = func(p string) error {
		if strings.HasSuffix(p, "1.tmp") {
			require.NoError(t, os.Rename(p, filepath.Join(dir, "1.blk")))
		}
		return inner(p)
	}
	require.NoError(t, f.sync())
	require.Contains(t, synced(), "1.blk")
}

func TestAFailedFsyncIsReported(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "1.blk"), []byte("a"), 0o600))
	f, _ := watched(dir)
	failure := &fs.PathError{Op: "sync", Err: errors.New("input/output error")}
	f.fsync = func(string) error { return failure }
	require.ErrorIs(t, f.sync(), failure)
}

// The real server: after any append and sync, each of its files is as it was
// when its last fsync began.
func TestTheSyncCoversBlocksKeysMetaFilesAndFoldersOfTheServer(t *testing.T) {
	cfg := created(t)
	j := opened(t, cfg)
	f, synced := watched(cfg.Dir)
	require.NoError(t, f.sync())
	all := strings.Join(synced(), "\n")
	streamDir := filepath.Join(storeDir, "jetstream", hubAccount, "streams", "LIVE_REPORTS")
	for _, name := range []string{"meta.inf", "meta.sum", "meta.key", "msgs", "obs", ""} {
		require.Contains(t, all, filepath.Join(streamDir, name))
	}

	appendN(t, j, LiveReports, 0, 1)
	require.NoError(t, f.sync())
	got := synced()
	require.Contains(t, got, filepath.Join(streamDir, "msgs/1.blk"))

	// Random data of more than a block: the server begins new ones.
	var blocks, keys int
	for i := range 70 { // blocks have 8 MiB
		_, err := j.Append(t.Context(), LiveReports, fmt.Sprintf("b-%d", i), random(256<<10))
		require.NoError(t, err)
		require.NoError(t, f.sync())
		got := synced()
		var folder bool
		var created int
		for _, p := range got {
			folder = folder || p == filepath.Join(streamDir, "msgs")
			if strings.HasSuffix(p, ".key") {
				keys++
				created++
			}
			if strings.HasSuffix(p, ".blk") {
				blocks++
			}
		}
		require.NotEmpty(t, got)
		if created > 0 {
			require.True(t, folder, "a new block's folder is synced: %v", got)
		}
	}
	require.GreaterOrEqual(t, blocks, 70, "every append changed a block")
	require.GreaterOrEqual(t, keys, 2, "new blocks have new keys")
	require.NoError(t, j.Close())

	// Nothing of the store is outside of what is synced.
	require.NoError(t, f.sync())
	require.NoError(t, f.sync())
	known := map[string]bool{}
	var walk func(n *node)
	walk = func(n *node) {
		known[n.path] = n.synced
		for _, c := range n.children {
			walk(c)
		}
	}
	walk(f.root)
	require.NoError(t, filepath.WalkDir(cfg.Dir, func(path string, d fs.DirEntry, err error) error {
		require.True(t, known[path], path)
		return err
	}))
}

func TestADirectoryOfAnotherVolumeIsToldFromAFolder(t *testing.T) {
	own, err := ownVolume(t.TempDir())
	require.NoError(t, err)
	require.False(t, own)
	own, err = ownVolume("/proc")
	require.NoError(t, err)
	require.True(t, own)
}

func TestSyncfsSyncsAVolumeOfItsOwn(t *testing.T) {
	// The choice and the call are what is tested here, not a disk.
	sync, err := newSync("/proc")
	require.NoError(t, err)
	require.NoError(t, sync())
}

func BenchmarkSyncOfManyUnchangedFiles(b *testing.B) {
	dir := b.TempDir()
	for i := range 600 {
		require.NoError(b, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.blk", i)), nil, 0o600))
	}
	f, _ := watched(dir)
	require.NoError(b, f.sync())
	for b.Loop() {
		if err := f.sync(); err != nil {
			b.Fatal(err)
		}
	}
}
