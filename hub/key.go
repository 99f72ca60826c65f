package hub

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"minato.example/internal/check"
	"minato.example/internal/rpc"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

const (
	keyType    = "application/vnd.minato.key.v1"
	maxKeyLife = 400 * 24 * time.Hour
	maxKeySkew = 5 * time.Minute // how far a node's clock may be ahead
)

// keySizes are the suites for sealing, with the length of a public key.
var keySizes = map[string]int{"MLKEM768-P256": 1184 + 65, "DHKEM-P256": 65}

// SetKey publishes a key to which reports may be sealed: of the calling node,
// or of a person of its member. It takes the place of the former one. The
// entry is kept as the node signed it, so that every sender can verify it.
func (h *Hub) SetKey(ctx context.Context, req *pb.SetKeyRequest) (*pb.SetKeyResponse, error) {
	from, err := h.sender(ctx)
	if err != nil {
		return nil, err
	}
	env, entry, err := openKey(req.GetKey(), from.key)
	if err != nil {
		return nil, err
	}
	err = h.change(ctx, func(d *directory) (*pb.DirectoryChange, error) {
		m, ok := d.active(from.id.member)
		if !ok {
			return nil, notEnrolled()
		}
		if bad := checkKey(entry, m, from.id, time.Now()); len(bad) > 0 {
			return nil, refusal(bad)
		}
		if i := keyIndex(m, entry); i >= 0 && proto.Equal(m.GetKeys()[i].GetEntry(), entry) {
			return nil, nil
		}
		if !h.keys.allow(from.id.member) {
			return nil, rpc.Refuse(codes.ResourceExhausted, "KEY_TOO_OFTEN", "key",
				"鍵の変更が多すぎます。10分ほど待ってやり直してください。", "Keys are changed too often. Wait ten minutes and try again.")
		}
		return &pb.DirectoryChange{Change: &pb.DirectoryChange_KeySet{KeySet: &pb.KeySet{Key: &pb.SignedKey{Entry: entry, Envelope: env}}}}, nil
	})
	if err != nil {
		return nil, err
	}
	h.log.InfoContext(ctx, "key set", "member", from.id.member, "node", from.id.number)
	return &pb.SetKeyResponse{}, nil
}

// openKey verifies an entry that the node with this key has signed.
func openKey(env *pb.Envelope, signer ed25519.PublicKey) (*pb.Envelope, *pb.KeyEntry, error) {
	only, err := seal.Only(env, keyType, signer)
	if err != nil {
		return nil, nil, refusal([]rpc.Violation{violation("key", "KEY_SIGNATURE",
			"鍵の登録の署名を確かめられません。ノードを更新してやり直してください。", "The signature of the key entry does not verify. Update the node and try again.")})
	}
	entry := new(pb.KeyEntry)
	if err := proto.Unmarshal(only.GetPayload(), entry); err != nil {
		return nil, nil, refusal([]rpc.Violation{violation("key", "KEY_INVALID", "鍵の登録を読めません。ノードを更新してやり直してください。", "The key entry cannot be read. Update the node and try again.")})
	}
	return only, entry, nil
}

// checkKey finds what is wrong with an entry of a node of m.
func checkKey(e *pb.KeyEntry, m *pb.Member, node nodeID, now time.Time) []rpc.Violation {
	bad := check.Message("key", e.ProtoReflect(), false)
	if e.GetMember() != node.member || e.GetNode() != node.number {
		bad = append(bad, violation("key.member", "KEY_NOT_YOURS", "自分のノードの鍵だけを登録できます。", "A node may publish its own keys only."))
	}
	if _, ok := person(m, e.GetPerson()); !ok && e.GetPerson() != "" {
		bad = append(bad, violation("key.person", "PERSON_UNKNOWN",
			"その担当者はプロフィールにありません。先に登録してください: minato node person", "The profile has no such person. Add it first: minato node person"))
	}
	if size, ok := keySizes[e.GetSuite()]; !ok {
		suites := strings.Join(slices.Sorted(maps.Keys(keySizes)), ", ")
		bad = append(bad, violation("key.suite", "KEY_SUITE",
			fmt.Sprintf("この暗号方式は使えません。使えるもの: %s", suites), fmt.Sprintf("The suite cannot be used. Use one of: %s", suites)))
	} else if len(e.GetPublicKey()) != size {
		bad = append(bad, violation("key.public_key", "KEY_SIZE",
			fmt.Sprintf("公開鍵の長さが正しくありません (%d バイト)。", size), fmt.Sprintf("The public key does not have the length of the suite (%d bytes).", size)))
	}
	made, end := e.GetCreateTime().AsTime(), e.GetExpireTime().AsTime()
	switch {
	case e.GetCreateTime() == nil || e.GetExpireTime() == nil || !made.Before(end) || !now.Before(end) || made.After(now.Add(maxKeySkew)) || end.After(now.Add(maxKeyLife)):
		bad = append(bad, violation("key.expire_time", "KEY_TIME",
			"鍵の期間が正しくありません。作成は過去、期限は400日以内の将来にしてください。端末の時計も確かめてください。",
			"The times of the key are not valid: made in the past, ending within 400 days. Check the clock of this machine too."))
	default:
		if i := keyIndex(m, e); i >= 0 && made.Before(m.GetKeys()[i].GetEntry().GetCreateTime().AsTime()) {
			bad = append(bad, violation("key.create_time", "KEY_OLDER",
				"登録済みの鍵より古い鍵です。新しい鍵を作ってください。", "The key is older than the one that is published. Make a new one."))
		}
	}
	return bad
}
