package node

import (
	"context"
	"database/sql"
	"time"

	pb "minato.example/proto/minato/v1"
)

// ownKey is an entry of the key directory that this node has signed.
type ownKey struct {
	person   string // empty for the key of the node
	keyID    string
	create   time.Time
	envelope []byte // marshalled
}

// addOwnKey keeps an entry before anybody else sees it. Doing it again changes
// nothing.
func (s *store) addOwnKey(ctx context.Context, k ownKey) error {
	return s.update(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO own_keys (person, create_time, key_id, envelope) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			k.person, micros(k.create), k.keyID, withSum(k.envelope))
		return err
	})
}

// ownKeys reads all entries that this node has signed, of each person the
// newest last.
func (s *store) ownKeys(ctx context.Context) ([]ownKey, error) {
	found, err := s.read.QueryContext(ctx, `SELECT person, create_time, key_id, envelope FROM own_keys ORDER BY person, create_time, key_id`)
	if err != nil {
		return nil, s.failed(err)
	}
	defer found.Close()
	var all []ownKey
	for found.Next() {
		var k ownKey
		var create int64
		var stored []byte
		if err := found.Scan(&k.person, &create, &k.keyID, &stored); err != nil {
			return nil, s.failed(err)
		}
		if k.envelope, err = s.verified(stored); err != nil {
			return nil, err
		}
		k.create = time.UnixMicro(create)
		all = append(all, k)
	}
	return all, s.failed(found.Err())
}

// keyOwner is whose key a pin is about; node is the one that signed the entry.
type keyOwner struct {
	member, person string
	node           uint32
}

// pin is a key as it was first seen, or confirmed since.
type pin struct {
	fingerprint string
	signer      string // key id of the node's signing key
}

// pins reads all pins.
func (s *store) pins(ctx context.Context) (map[keyOwner]pin, error) {
	found, err := s.read.QueryContext(ctx, `SELECT member, person, node, fingerprint, signer FROM pins`)
	if err != nil {
		return nil, s.failed(err)
	}
	defer found.Close()
	all := map[keyOwner]pin{}
	for found.Next() {
		var o keyOwner
		var p pin
		if err := found.Scan(&o.member, &o.person, &o.node, &p.fingerprint, &p.signer); err != nil {
			return nil, s.failed(err)
		}
		all[o] = p
	}
	return all, s.failed(found.Err())
}

// setPins adds or replaces pins.
func (s *store) setPins(ctx context.Context, fresh map[keyOwner]pin) error {
	if len(fresh) == 0 {
		return nil
	}
	return s.update(ctx, func(tx *sql.Tx) error {
		for o, p := range fresh {
			if _, err := tx.Exec(`INSERT INTO pins (member, person, node, fingerprint, signer, pin_time) VALUES (?, ?, ?, ?, ?, ?)
				ON CONFLICT DO UPDATE SET fingerprint = excluded.fingerprint, signer = excluded.signer, pin_time = excluded.pin_time`,
				o.member, o.person, o.node, p.fingerprint, p.signer, micros(s.now())); err != nil {
				return err
			}
		}
		return nil
	})
}

// keyAlarm is a difference between the directory and what this node knows of
// its own keys.
type keyAlarm struct {
	id                string // the same difference has the same
	japanese, english string
	first, last       time.Time
	present           bool // false when the directory is right again
}

// maxAlarms bounds what is kept: a hub that makes up keys must not fill the
// disk.
const maxAlarms = 100

// setKeyAlarms keeps what differs now. What no longer differs stays to be
// shown.
func (s *store) setKeyAlarms(ctx context.Context, now []keyAlarm) error {
	return s.update(ctx, func(tx *sql.Tx) error {
		if _, err := tx.Exec(`UPDATE key_alarms SET present = 0 WHERE present = 1`); err != nil {
			return err
		}
		at := micros(s.now())
		for _, a := range now {
			if _, err := tx.Exec(`INSERT INTO key_alarms (alarm, japanese, english, first_time, last_time, present) VALUES (?1, ?2, ?3, ?4, ?4, 1)
				ON CONFLICT DO UPDATE SET last_time = excluded.last_time, present = 1`, a.id, a.japanese, a.english, at); err != nil {
				return err
			}
		}
		_, err := tx.Exec(`DELETE FROM key_alarms WHERE alarm NOT IN (SELECT alarm FROM key_alarms ORDER BY present DESC, last_time DESC LIMIT ?)`, maxAlarms)
		return err
	})
}

// dropKeyAlarms forgets the alarms whose id begins so: a person has settled them.
func (s *store) dropKeyAlarms(ctx context.Context, prefix string) error {
	return s.update(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec(`DELETE FROM key_alarms WHERE substr(alarm, 1, ?) = ?`, len(prefix), prefix)
		return err
	})
}

// keyAlarms reads the alarms, those that last first.
func (s *store) keyAlarms(ctx context.Context) ([]keyAlarm, error) {
	found, err := s.read.QueryContext(ctx, `SELECT alarm, japanese, english, first_time, last_time, present FROM key_alarms ORDER BY present DESC, last_time DESC, alarm`)
	if err != nil {
		return nil, s.failed(err)
	}
	defer found.Close()
	var all []keyAlarm
	for found.Next() {
		var a keyAlarm
		var first, last int64
		if err := found.Scan(&a.id, &a.japanese, &a.english, &first, &last, &a.present); err != nil {
			return nil, s.failed(err)
		}
		a.first, a.last = time.UnixMicro(first), time.UnixMicro(last)
		all = append(all, a)
	}
	return all, s.failed(found.Err())
}

// rejection is something that came and was not taken for a report.
type rejection struct {
	lane     pb.Lane
	reportID string
	reason   string
	at       time.Time
}

// maxRejections is how many are kept.
const maxRejections = 20

// addRejection keeps why a delivery was not taken. A delivery that comes again
// is not kept twice.
func (s *store) addRejection(ctx context.Context, r rejection) error {
	return s.update(ctx, func(tx *sql.Tx) error {
		if _, err := tx.Exec(`DELETE FROM rejections WHERE lane = ? AND report_id = ? AND reason = ?`, r.lane, r.reportID, r.reason); err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO rejections (lane, report_id, reason, reject_time) VALUES (?, ?, ?, ?)`,
			r.lane, r.reportID, r.reason, micros(s.now())); err != nil {
			return err
		}
		_, err := tx.Exec(`DELETE FROM rejections WHERE row NOT IN (SELECT row FROM rejections ORDER BY row DESC LIMIT ?)`, maxRejections)
		return err
	})
}

// rejections reads them, newest first.
func (s *store) rejections(ctx context.Context) ([]rejection, error) {
	found, err := s.read.QueryContext(ctx, `SELECT lane, report_id, reason, reject_time FROM rejections ORDER BY row DESC`)
	if err != nil {
		return nil, s.failed(err)
	}
	defer found.Close()
	var all []rejection
	for found.Next() {
		var r rejection
		var at int64
		if err := found.Scan(&r.lane, &r.reportID, &r.reason, &at); err != nil {
			return nil, s.failed(err)
		}
		r.at = time.UnixMicro(at)
		all = append(all, r)
	}
	return all, s.failed(found.Err())
}
