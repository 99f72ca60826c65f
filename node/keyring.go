package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"minato.example/internal/ca"
	"minato.example/internal/seal"
)

// keyring holds the private keys to which reports are sealed: keys/seal.key of
// the node itself, keys/persons/PERSON.key of each person for whom the node
// opens. A key that has been replaced stays, with its id in its name, so that
// older reports still open.
type keyring struct {
	dir string

	mu      sync.RWMutex
	node    *seal.PrivateKey                       // the present one
	private map[string]map[string]*seal.PrivateKey // by person, empty for the node, and key id
}

// openKeyring reads the keys and makes that of the node when there is none: at
// the first start, and in a directory of an earlier version.
func openKeyring(dir, suite string) (*keyring, error) {
	k := &keyring{dir: dir, private: map[string]map[string]*seal.PrivateKey{}}
	if err := ca.MakeDir(k.persons()); err != nil {
		return nil, err
	}
	if err := k.read("", dir, "seal"); err != nil {
		return nil, err
	}
	files, err := os.ReadDir(k.persons())
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		person, _, _ := strings.Cut(f.Name(), ".")
		if ca.ValidID(person) && strings.HasSuffix(f.Name(), ".key") && k.private[person] == nil {
			if err := k.read(person, k.persons(), person); err != nil {
				return nil, err
			}
		}
	}
	key, err := readKey(filepath.Join(dir, "seal.key"))
	if errors.Is(err, fs.ErrNotExist) {
		return k, k.renew(suite)
	}
	k.node = key
	return k, err
}

func (k *keyring) persons() string { return filepath.Join(k.dir, "persons") }

// read takes up the present key of a holder and those that it has replaced.
func (k *keyring) read(person, dir, name string) error {
	older := name + "."
	if person == "" {
		older = name + "-"
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.Name() != name+".key" && (!strings.HasPrefix(f.Name(), older) || !strings.HasSuffix(f.Name(), ".key")) {
			continue
		}
		key, err := readKey(filepath.Join(dir, f.Name()))
		if err != nil {
			return err
		}
		k.add(person, key)
	}
	return nil
}

func (k *keyring) add(person string, key *seal.PrivateKey) {
	if k.private[person] == nil {
		k.private[person] = map[string]*seal.PrivateKey{}
	}
	k.private[person][key.Public().ID()] = key
}

func readKey(path string) (*seal.PrivateKey, error) {
	text, err := ca.ReadSecret(path)
	if err != nil {
		return nil, err
	}
	key, err := seal.ParsePrivateKey(text)
	if err != nil {
		return nil, &KeyError{Path: path, Err: err}
	}
	return key, nil
}

// current is the node's present key.
func (k *keyring) current() *seal.PrivateKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.node
}

// find is the private key of a holder by its id; the holder of the node's keys
// is empty. It is nil when the key is not here.
func (k *keyring) find(person, id string) *seal.PrivateKey {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.private[person][id]
}

// renew makes a new key for the node.
func (k *keyring) renew(suite string) error {
	key, err := seal.GenerateKey(suite)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := replaceKey(k.dir, "seal.key", "seal-%s.key", key); err != nil {
		return err
	}
	k.node = key
	k.add("", key)
	return nil
}

// setPerson keeps the key of a person for whom the node opens.
func (k *keyring) setPerson(person string, key *seal.PrivateKey) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := replaceKey(k.persons(), person+".key", person+".%s.key", key); err != nil {
		return err
	}
	k.add(person, key)
	return nil
}

// replaceKey puts a key into its place. The one that was there is stored under
// its id first: a power cut leaves both.
func replaceKey(dir, name, older string, key *seal.PrivateKey) error {
	path := filepath.Join(dir, name)
	switch old, err := readKey(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case old.Public().ID() == key.Public().ID():
		return nil
	default:
		text, err := old.MarshalText()
		if err != nil {
			return err
		}
		if err := ca.WriteSecret(filepath.Join(dir, fmt.Sprintf(older, old.Public().ID())), text); err != nil {
			return err
		}
	}
	text, err := key.MarshalText()
	if err != nil {
		return err
	}
	return ca.WriteSecret(path, text)
}
