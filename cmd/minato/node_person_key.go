package main

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

// personKey sees to it that a person has a key to which TLP:RED is sealed. It
// is kept by the node, or, with a file, by nobody but the holder of the file. A
// key that the person has already stays, unless another is asked for: whoever
// has compared its fingerprint would have to do it again.
func (a *app) personKey(ctx context.Context, person, file string, another bool) (err error) {
	return a.withNode(ctx, func(n pb.NodeServiceClient) (err error) {
		ctx, cancel := context.WithTimeout(ctx, callTime)
		defer cancel()
		suite, has, err := ownKeys(ctx, n, person)
		if err != nil {
			return err
		}
		if has != "" && file == "" && !another {
			return a.tellKey(person, has)
		}
		key, err := seal.GenerateKey(suite)
		if err != nil {
			return err
		}
		req := &pb.SetPersonKeyRequest{Person: person, Suite: key.Suite(), PublicKey: key.Public().Bytes()}
		if file == "" {
			if req.PrivateKey, err = key.Bytes(); err != nil {
				return err
			}
		} else {
			if err := writeKey(file, key); err != nil {
				return err
			}
			defer func() {
				if err != nil {
					_ = os.Remove(file) // nobody knows of the key
				}
			}()
		}
		answer, err := n.SetPersonKey(ctx, req)
		if err != nil {
			return err
		}
		if file != "" {
			a.talk(textf("鍵を %s に書きました。ノードには残りません。本人だけが持ち、写しを安全な所に置いてください。\n失うと、それまでの TLP:RED は誰にも開けません。開く時: minato show ID --key %s",
				"The key is in %s and not in the node. Only that person should have it; keep a copy in a safe place.\nWithout it nobody can open earlier TLP:RED. To open one: minato show ID --key %s", plain(file), plain(file)))
		}
		return a.tellKey(person, answer.GetFingerprint())
	})
}

func (a *app) tellKey(person, fingerprint string) error {
	if a.json {
		return a.emitValue(struct {
			Person      string `json:"person"`
			Fingerprint string `json:"fingerprint"`
		}{person, fingerprint})
	}
	a.talk(Text{"相手と電話で指紋を読み合わせてください。相手の側では: minato members --keys", "Compare the fingerprint by telephone. The other side sees it with: minato members --keys"})
	return a.sayText(textf("%s の鍵の指紋: %s", "fingerprint of the key of %s: %s", plain(person), plain(fingerprint)))
}

// ownKeys is the suite of this member's keys and the fingerprint of the key
// that a person of it has; both as the directory shows them.
func ownKeys(ctx context.Context, n pb.NodeServiceClient, person string) (suite, fingerprint string, err error) {
	status, err := n.GetStatus(ctx, &pb.GetStatusRequest{})
	if err != nil {
		return "", "", err
	}
	members, err := peers(ctx, n)
	if err != nil {
		return "", "", err
	}
	suite = seal.MLKEM768P256
	for _, m := range members {
		if m.GetId() != status.GetMember() {
			continue
		}
		for _, k := range m.GetKeys() {
			switch e := k.GetEntry(); {
			case e.GetPerson() == person:
				fingerprint = seal.Fingerprint(e.GetPublicKey())
			case e.GetPerson() == "" && e.GetNode() == status.GetNode():
				suite = e.GetSuite()
			}
		}
	}
	return suite, fingerprint, nil
}

// writeKey writes a key to a new file that only its owner can read.
func writeKey(path string, key *seal.PrivateKey) error {
	text, err := key.MarshalText()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return usage(textf("--key-file %s は既にあります", "--key-file %s is already there", plain(path)), Text{"別の名前を指定してください", "give another name"})
	} else if err != nil {
		return badKeyFile(path, err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(badKeyFile(path, err), os.Remove(path))
	}
	return nil
}

func badKeyFile(path string, err error) error {
	return &failure{code: exitUsage, err: err,
		what: textf("--key-file %s に書けません: %s", "cannot write --key-file %s: %s", plain(path), plain(err.Error())),
		next: Text{"書ける場所を指定してください", "name a place that you can write to"}}
}
