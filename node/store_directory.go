package node

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"

	"google.golang.org/protobuf/proto"

	pb "minato.example/proto/minato/v1"
)

// Keys of the meta table that the store itself uses.
const (
	directoryRevision = "directory.revision"
	ownProfile        = "profile"
	profilePending    = "profile.pending"
)

// setDirectory replaces the directory as the node last saw it.
func (s *store) setDirectory(ctx context.Context, members []*pb.Member, revision uint64) error {
	encoded := make([][]byte, len(members))
	for i, m := range members {
		var err error
		if encoded[i], err = proto.Marshal(m); err != nil {
			return fmt.Errorf("encode a member: %w", err)
		}
	}
	return s.update(ctx, func(tx *sql.Tx) error {
		if _, err := tx.Exec(`DELETE FROM members`); err != nil {
			return err
		}
		for i, m := range members {
			if _, err := tx.Exec(`INSERT INTO members (id, member) VALUES (?, ?)`, m.GetId(), withSum(encoded[i])); err != nil {
				return err
			}
		}
		return putMeta(tx, directoryRevision, binary.BigEndian.AppendUint64(nil, revision))
	})
}

// directory reads the members by id, and the revision; 0 when the hub has not
// been reached yet.
func (s *store) directory(ctx context.Context) (members []*pb.Member, revision uint64, err error) {
	// One snapshot, so that members and revision agree.
	tx, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, 0, s.failed(err)
	}
	defer tx.Rollback()
	number, ok, err := s.metaFrom(ctx, tx, directoryRevision)
	if err != nil {
		return nil, 0, err
	}
	if ok && len(number) == 8 {
		revision = binary.BigEndian.Uint64(number)
	}
	found, err := tx.QueryContext(ctx, `SELECT member FROM members ORDER BY id`)
	if err != nil {
		return nil, 0, s.failed(err)
	}
	defer found.Close()
	for found.Next() {
		var stored []byte
		if err := found.Scan(&stored); err != nil {
			return nil, 0, s.failed(err)
		}
		m := new(pb.Member)
		if err := s.decode(stored, m); err != nil {
			return nil, 0, err
		}
		members = append(members, m)
	}
	return members, revision, s.failed(found.Err())
}

// setProfile replaces the member's profile. pending means that the hub does
// not have it yet.
func (s *store) setProfile(ctx context.Context, p *pb.Profile, pending bool) error {
	encoded, err := encodeProfile(p)
	if err != nil {
		return err
	}
	return s.update(ctx, func(tx *sql.Tx) error {
		if err := putMeta(tx, ownProfile, encoded); err != nil {
			return err
		}
		return setPending(tx, pending)
	})
}

// profile reads the profile, empty when none was set, and whether the hub does
// not have it yet.
func (s *store) profile(ctx context.Context) (p *pb.Profile, pending bool, err error) {
	tx, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, false, s.failed(err)
	}
	defer tx.Rollback()
	encoded, _, err := s.metaFrom(ctx, tx, ownProfile)
	if err != nil {
		return nil, false, err
	}
	if _, pending, err = s.metaFrom(ctx, tx, profilePending); err != nil {
		return nil, false, err
	}
	p = new(pb.Profile)
	if err := proto.Unmarshal(encoded, p); err != nil {
		return nil, false, damaged(s.path, err)
	}
	return p, pending, nil
}

// markProfileSent records that the hub has this profile. When another was set
// meanwhile, that one stays pending.
func (s *store) markProfileSent(ctx context.Context, sent *pb.Profile) error {
	encoded, err := encodeProfile(sent)
	if err != nil {
		return err
	}
	return s.update(ctx, func(tx *sql.Tx) error {
		have, _, err := s.metaFrom(context.WithoutCancel(ctx), tx, ownProfile)
		if err != nil || !bytes.Equal(have, encoded) {
			return err
		}
		return setPending(tx, false)
	})
}

func setPending(tx *sql.Tx, pending bool) error {
	if pending {
		return putMeta(tx, profilePending, []byte{1})
	}
	_, err := tx.Exec(`DELETE FROM meta WHERE key = ?`, profilePending)
	return err
}

func encodeProfile(p *pb.Profile) ([]byte, error) {
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode the profile: %w", err)
	}
	return encoded, nil
}
