package hub

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"minato.example/internal/rpc"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

// maxKeySkew is how far the clock of a node may be ahead.
const maxKeySkew = 5 * time.Minute

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

// openKey verifies an entry that the node with this key has signed. It is
// complete in itself: a suite that is known, a key of that suite, its times.
func openKey(env *pb.Envelope, signer ed25519.PublicKey) (*pb.Envelope, *pb.KeyEntry, error) {
	only, err := seal.Only(env, seal.KeyType, signer)
	if err != nil {
		return nil, nil, refusal([]rpc.Violation{violation("key", "KEY_SIGNATURE",
			"鍵の登録の署名を確かめられません。ノードを更新してやり直してください。", "The signature of the key entry does not verify. Update the node and try again.")})
	}
	entry, err := seal.VerifyKey(only, signer)
	if err != nil {
		return nil, nil, refusal([]rpc.Violation{violation("key", "KEY_INVALID",
			fmt.Sprintf("鍵の登録が正しくありません (%v)。端末の時計を確かめ、ノードを更新してやり直してください。", err),
			fmt.Sprintf("The key entry is not valid (%v). Check the clock of this machine, update the node and try again.", err))})
	}
	return only, entry, nil
}

// checkKey finds what is wrong with an entry of a node of m.
func checkKey(e *pb.KeyEntry, m *pb.Member, node nodeID, now time.Time) (bad []rpc.Violation) {
	if e.GetMember() != node.member || e.GetNode() != node.number {
		bad = append(bad, violation("key.member", "KEY_NOT_YOURS", "自分のノードの鍵だけを登録できます。", "A node may publish its own keys only."))
	}
	if _, ok := person(m, e.GetPerson()); !ok && e.GetPerson() != "" {
		bad = append(bad, violation("key.person", "PERSON_UNKNOWN",
			"その担当者はプロフィールにありません。先に登録してください: minato node person", "The profile has no such person. Add it first: minato node person"))
	}
	made, end := e.GetCreateTime().AsTime(), e.GetExpireTime().AsTime()
	if !now.Before(end) || made.After(now.Add(maxKeySkew)) {
		bad = append(bad, violation("key.expire_time", "KEY_TIME",
			"鍵は期限切れか、将来に作られたことになっています。端末の時計を確かめ、新しい鍵を作ってください。",
			"The key has expired or claims to be made in the future. Check the clock of this machine and make a new one."))
	}
	if i := keyIndex(m, e); i >= 0 && made.Before(m.GetKeys()[i].GetEntry().GetCreateTime().AsTime()) {
		bad = append(bad, violation("key.create_time", "KEY_OLDER",
			"登録済みの鍵より古い鍵です。新しい鍵を作ってください。", "The key is older than the one that is published. Make a new one."))
	}
	return bad
}
