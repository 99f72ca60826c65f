//go:build !linux

package journal

import (
	"io/fs"
	"path/filepath"
)

// syncAlways: where the barrier cannot sync, the server does so on each write.
const syncAlways = true

func newSync(string) (func() error, error) {
	return func() error { return nil }, nil
}

// fileSync syncs every file and folder; only Create needs it here.
type fileSync struct{ dir string }

func newFileSync(dir string) fileSync { return fileSync{dir} }

func (f fileSync) sync() error {
	return filepath.WalkDir(f.dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return syncPath(path)
	})
}

// freeBytes is not measured here: a fixed 8 GiB, so set Config.MaxBytes.
func freeBytes(string) (int64, error) { return 8 << 30, nil }
