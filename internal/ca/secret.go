package ca

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// maxSecret bounds what ReadSecret reads; keys have a few hundred bytes.
const maxSecret = 64 << 10

// What goes wrong with files; test with errors.Is. The errors themselves name
// the file and say what to type, in both languages.
var (
	// ErrMode: others than the owner may read the file or enter the folder.
	ErrMode = errors.New("mode is too wide")
	// ErrKey: the file does not hold a key.
	ErrKey = errors.New("not a key file")
)

// told is an error for a person.
type told struct {
	en, ja string
	err    error
}

func (e *told) Error() string    { return e.en }
func (e *told) Japanese() string { return e.ja }
func (e *told) Unwrap() error    { return e.err }

// MakeDir creates the folder, and what is missing above it, with mode 0700. A
// folder that is there already must pass CheckDir.
func MakeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return CheckDir(dir)
}

// CheckDir refuses a folder that others than its owner may enter.
func CheckDir(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return &told{
			en:  fmt.Sprintf("%s is not a folder. Name a folder.", dir),
			ja:  fmt.Sprintf("%s はフォルダーではありません。フォルダーを指定してください。", dir),
			err: fs.ErrInvalid,
		}
	}
	return checkMode(dir, info, 0o700)
}

func checkMode(path string, info fs.FileInfo, want fs.FileMode) error {
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	return &told{
		en:  fmt.Sprintf("%s may be read by others (mode %04o). Type: chmod %04o %s", path, info.Mode().Perm(), want, path),
		ja:  fmt.Sprintf("%s を他の利用者が読めます (モード %04o)。次を実行してください: chmod %04o %s", path, info.Mode().Perm(), want, path),
		err: ErrMode,
	}
}

// WriteSecret replaces the file with mode 0600. After a power cut the old or
// the new content is there, whole; when it returns, the new.
func WriteSecret(path string, data []byte) error {
	return replace(path, data, 0o600)
}

func replace(path string, data []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(dir), renameio.WithStaticPermissions(mode))
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ReadSecret reads a file of at most 64 KiB and refuses it when others than
// its owner may read it. The mode is that of the file that was opened.
func ReadSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxSecret {
		return nil, notKey(path)
	}
	if err := checkMode(path, info, 0o600); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, maxSecret))
}

// WriteKey writes a private key, PKCS#8 DER, as PEM in the way of WriteSecret.
func WriteKey(path string, der []byte) error {
	return WriteSecret(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// ReadKey reads what WriteKey wrote, in the way of ReadSecret: an
// *ecdsa.PrivateKey or an ed25519.PrivateKey.
func ReadKey(path string) (crypto.Signer, error) {
	data, err := ReadSecret(path)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" || len(rest) > 0 {
		return nil, notKey(path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, notKey(path)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, notKey(path)
	}
	return signer, nil
}

func notKey(path string) error {
	return &told{
		en:  fmt.Sprintf("%s is damaged or not a key. Restore it from the backup.", path),
		ja:  fmt.Sprintf("%s が壊れているか、鍵ではありません。バックアップから戻してください。", path),
		err: ErrKey,
	}
}
