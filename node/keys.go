package node

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"minato.example/internal/rpc"
	"minato.example/internal/seal"
	pb "minato.example/proto/minato/v1"
)

// keyLife is how long reports are sealed to one entry of the key directory. It
// is replaced at half its life: the node's key by a new one, a person's key by
// the same key with a new entry, since a person's key may be elsewhere.
const keyLife = 90 * 24 * time.Hour

// tendKeys sees to it that the directory has the keys of this node and of its
// persons. What is published is kept here first: whatever else the directory
// shows for them is not ours.
func (n *Node) tendKeys(ctx context.Context) error {
	entries, err := n.ownEntries(ctx, time.Now())
	if err != nil {
		return err
	}
	members, _, err := n.store.directory(ctx)
	if err != nil {
		return err
	}
	var listed [][]byte
	for _, k := range memberOf(members, n.id.member).GetKeys() {
		listed = append(listed, k.GetEnvelope().GetPayload())
	}
	var errs []error
	for _, e := range entries {
		env := new(pb.Envelope)
		if err := proto.Unmarshal(e.envelope, env); err != nil {
			return damaged(n.store.path, err)
		}
		if slices.ContainsFunc(listed, func(p []byte) bool { return bytes.Equal(p, env.GetPayload()) }) {
			continue
		}
		if err := n.publishKey(ctx, env); err != nil {
			errs = append(errs, fmt.Errorf("publish key %s: %w", e.keyID, err))
		}
	}
	return errors.Join(errs...)
}

func (n *Node) publishKey(ctx context.Context, env *pb.Envelope) error {
	call, cancel := context.WithTimeout(ctx, n.within)
	defer cancel()
	_, err := n.hub.SetKey(call, &pb.SetKeyRequest{Key: env})
	return err
}

// ownEntries are the entries that the directory should have: one for the node,
// one for each person of the profile who has a key. What is due is renewed.
func (n *Node) ownEntries(ctx context.Context, now time.Time) ([]ownKey, error) {
	all, err := n.store.ownKeys(ctx)
	if err != nil {
		return nil, err
	}
	newest := map[string]ownKey{}
	for _, k := range all {
		newest[k.person] = k
	}
	suite := n.config.profile().Suite
	own, made := newest[""]
	if key := n.keys.current(); key.Suite() != suite || made && own.keyID == key.Public().ID() && due(own, now) {
		if err := n.keys.renew(suite); err != nil {
			return nil, err
		}
		n.log.InfoContext(ctx, "key for sealed reports renewed")
	}
	key := n.keys.current().Public()
	if !made || own.keyID != key.ID() {
		if own, err = n.signEntry(ctx, "", key, now); err != nil {
			return nil, err
		}
	}
	entries := []ownKey{own}
	profile, _, err := n.store.profile(ctx)
	if err != nil {
		return nil, err
	}
	for _, person := range profile.GetPersons() {
		own, ok := newest[person.GetId()]
		if !ok {
			continue
		}
		if due(own, now) {
			e, err := entryOf(own)
			if err != nil {
				return nil, err
			}
			key, err := seal.NewPublicKey(e.GetSuite(), e.GetPublicKey())
			if err != nil {
				return nil, err
			}
			if own, err = n.signEntry(ctx, person.GetId(), key, now); err != nil {
				return nil, err
			}
		}
		entries = append(entries, own)
	}
	return entries, nil
}

func due(k ownKey, now time.Time) bool { return !now.Before(k.create.Add(keyLife / 2)) }

// entryOf reads an entry that this node has signed and stored itself.
func entryOf(k ownKey) (*pb.KeyEntry, error) {
	env, e := new(pb.Envelope), new(pb.KeyEntry)
	return e, errors.Join(proto.Unmarshal(k.envelope, env), proto.Unmarshal(env.GetPayload(), e))
}

// signEntry signs an entry for a key and keeps it.
func (n *Node) signEntry(ctx context.Context, person string, key *seal.PublicKey, now time.Time) (ownKey, error) {
	now = now.Truncate(time.Microsecond)
	env, err := seal.SignKey(n.id.signing, &pb.KeyEntry{
		Member: n.id.member, Person: person, Node: n.id.number, Suite: key.Suite(), PublicKey: key.Bytes(),
		CreateTime: timestamppb.New(now), ExpireTime: timestamppb.New(now.Add(keyLife)),
	})
	if err != nil {
		return ownKey{}, err
	}
	encoded, err := proto.Marshal(env)
	if err != nil {
		return ownKey{}, err
	}
	own := ownKey{person: person, keyID: key.ID(), create: now, envelope: encoded}
	return own, n.store.addOwnKey(ctx, own)
}

// memberOf finds a member; nil when it is not there.
func memberOf(members []*pb.Member, id string) *pb.Member {
	i := slices.IndexFunc(members, func(m *pb.Member) bool { return m.GetId() == id })
	if i < 0 {
		return nil
	}
	return members[i]
}

// signerOf is the signing key of a member's node; nil when the node is not
// there or out.
func signerOf(m *pb.Member, number uint32) ed25519.PublicKey {
	for _, node := range m.GetNodes() {
		if node.GetNumber() == number && node.GetState() != pb.MemberState_MEMBER_STATE_REVOKED {
			return node.GetSigningKey()
		}
	}
	return nil
}

// entryIn verifies an entry of a member's key directory.
func entryIn(m *pb.Member, k *pb.SignedKey, signer ed25519.PublicKey) (*pb.KeyEntry, error) {
	e, err := seal.VerifyKey(k.GetEnvelope(), signer)
	if err != nil {
		return nil, err
	}
	if e.GetMember() != m.GetId() || !proto.Equal(e, k.GetEntry()) {
		return nil, errors.New("the entry is not what its owner has signed")
	}
	return e, nil
}

// watchKeys looks at the keys of a directory that has just come. The own ones
// must be those that were published here. Those of others are noted when they
// are first seen; a node's new key is taken over when the same signing key
// vouches for it, since keys are renewed by themselves. Everything else has to
// be confirmed by a person: another key, and a key by a further node of a
// member that is known already, since a hub could make one up.
func (n *Node) watchKeys(ctx context.Context, members []*pb.Member) error {
	known, err := n.store.pins(ctx)
	if err != nil {
		return err
	}
	fresh := map[keyOwner]pin{}
	for _, m := range members {
		if m.GetId() == n.id.member {
			continue
		}
		for owner, k := range keysOf(m) {
			had, pinned := known[owner]
			now := pin{fingerprint: k.key.Fingerprint(), signer: k.signer}
			if !pinned && (!knownOwner(known, owner) || samePerson(known, owner, now)) || pinned && now != had && owner.person == "" && now.signer == had.signer {
				fresh[owner] = now
			}
		}
	}
	alarms, err := n.ownKeyAlarms(ctx, memberOf(members, n.id.member))
	if err != nil {
		return err
	}
	return errors.Join(n.store.setPins(ctx, fresh), n.store.setKeyAlarms(ctx, alarms))
}

// samePerson reports whether a person's key is one that is known already and
// that another node of the member publishes too.
func samePerson(known map[keyOwner]pin, o keyOwner, now pin) bool {
	for other, p := range known {
		if o.person != "" && other.member == o.member && other.person == o.person && p.fingerprint == now.fingerprint {
			return true
		}
	}
	return false
}

// knownOwner reports whether a key of the same member or person is known, by
// whichever node.
func knownOwner(pins map[keyOwner]pin, o keyOwner) bool {
	for p := range pins {
		if p.member == o.member && p.person == o.person {
			return true
		}
	}
	return false
}

// listedKey is a key of the directory that verifies.
type listedKey struct {
	key    *seal.PublicKey
	entry  *pb.KeyEntry
	signer string // key id of the node's signing key
}

// keysOf are the keys of a member that verify, the newest of each owner.
func keysOf(m *pb.Member) map[keyOwner]listedKey {
	all := map[keyOwner]listedKey{}
	for _, k := range m.GetKeys() {
		signer := signerOf(m, k.GetEntry().GetNode())
		e, err := entryIn(m, k, signer)
		if err != nil {
			continue
		}
		key, err := seal.NewPublicKey(e.GetSuite(), e.GetPublicKey())
		if err != nil {
			continue
		}
		owner := keyOwner{m.GetId(), e.GetPerson(), e.GetNode()}
		if had, ok := all[owner]; !ok || e.GetCreateTime().AsTime().After(had.entry.GetCreateTime().AsTime()) {
			all[owner] = listedKey{key: key, entry: e, signer: seal.KeyID(signer)}
		}
	}
	return all
}

// ownKeyAlarms are the entries of the own member that nobody here has made.
func (n *Node) ownKeyAlarms(ctx context.Context, own *pb.Member) ([]keyAlarm, error) {
	made, err := n.store.ownKeys(ctx)
	if err != nil {
		return nil, err
	}
	signing := n.id.signing.Public().(ed25519.PublicKey)
	var alarms []keyAlarm
	if listed := signerOf(own, n.id.number); listed != nil && !listed.Equal(signing) {
		alarms = append(alarms, keyAlarm{
			id: "signing " + seal.KeyID(listed),
			japanese: fmt.Sprintf("ハブの名簿にある、この端末の署名鍵が実際のものと異なります (%s)。ハブの運用者に電話で確かめ、解決するまで TLP:RED を送らないよう相手に伝えてください。",
				seal.KeyID(listed)),
			english: fmt.Sprintf("The hub's directory shows another signing key for this node (%s). Telephone the hub's operator, and tell others not to send TLP:RED until it is cleared up.",
				seal.KeyID(listed)),
		})
	}
	siblings, err := n.strangeSiblings(ctx, own)
	if err != nil {
		return nil, err
	}
	alarms = append(alarms, siblings...)
	for _, k := range own.GetKeys() {
		claimed := k.GetEntry()
		signer := signerOf(own, claimed.GetNode())
		if claimed.GetNode() == n.id.number {
			signer = signing
		}
		_, err := entryIn(own, k, signer)
		if err == nil && claimed.GetNode() == n.id.number {
			if !slices.ContainsFunc(made, func(o ownKey) bool {
				return o.person == claimed.GetPerson() && o.keyID == seal.KeyID(claimed.GetPublicKey())
			}) &&
				n.keys.find(claimed.GetPerson(), seal.KeyID(claimed.GetPublicKey())) == nil {
				err = errors.New("this node has not made the key")
			}
		}
		if err == nil {
			continue
		}
		whoJa, whoEn := fmt.Sprintf("ノード %d", claimed.GetNode()), fmt.Sprintf("node %d", claimed.GetNode())
		if claimed.GetPerson() != "" {
			whoJa, whoEn = "担当者 "+shown(claimed.GetPerson()), "person "+shown(claimed.GetPerson())
		}
		print := seal.Fingerprint(claimed.GetPublicKey())
		alarms = append(alarms, keyAlarm{
			id: fmt.Sprintf("key %q %d %s", claimed.GetPerson(), claimed.GetNode(), print),
			japanese: fmt.Sprintf("ハブの名簿に、自組織が作っていない鍵が載っています (%s、指紋 %s)。ハブの運用者に電話で確かめ、解決するまで TLP:RED を送らないよう相手に伝えてください。",
				whoJa, print),
			english: fmt.Sprintf("The hub's directory shows a key for us that we have not made (%s, fingerprint %s). Telephone the hub's operator, and tell others not to send TLP:RED until it is cleared up.",
				whoEn, print),
		})
	}
	if len(alarms) > 0 {
		n.log.WarnContext(ctx, "the directory shows keys that are not ours", "count", len(alarms))
	}
	if len(alarms) > maxAlarms {
		alarms = alarms[:maxAlarms]
	}
	return alarms, nil
}

// siblingAlarm begins the ids of the alarms about nodes of the own member.
const siblingAlarm = "node "

// strangeSiblings are the further nodes of the own member that have appeared
// since this node looked first: a hub could make one up, report and read in our
// name with it. Somebody who has set it up confirms it. Nodes that are out are
// none.
func (n *Node) strangeSiblings(ctx context.Context, own *pb.Member) (alarms []keyAlarm, err error) {
	if own == nil {
		return nil, nil
	}
	pins, err := n.store.pins(ctx)
	if err != nil {
		return nil, err
	}
	nodes := signersOf(own)
	if _, looked := pins[keyOwner{member: own.GetId(), node: n.id.number}]; !looked {
		// The own entry marks that this was the first look.
		nodes[keyOwner{member: own.GetId(), node: n.id.number}] = signingPin(n.id.signing.Public().(ed25519.PublicKey))
		return nil, n.store.setPins(ctx, nodes)
	}
	for owner, p := range nodes {
		if owner.node == n.id.number || pins[owner] == p {
			continue
		}
		alarms = append(alarms, keyAlarm{
			id: fmt.Sprintf("%s%d %s", siblingAlarm, owner.node, p.signer),
			japanese: fmt.Sprintf("ハブの名簿に、自組織の別のノード %d (署名鍵の指紋 %s) が加わりました。自組織で設置したものなら、そのノードの minato status で指紋を確かめ、minato members --confirm-key %s を実行してください。身に覚えがなければ、ハブの運用者に電話で確かめてください。",
				owner.node, p.fingerprint, own.GetId()),
			english: fmt.Sprintf("The hub's directory shows a further node %d of ours (fingerprint of its signing key %s). If we have set it up, compare the fingerprint with minato status on that node and type: minato members --confirm-key %s. If nobody here has, telephone the hub's operator.",
				owner.node, p.fingerprint, own.GetId()),
		})
	}
	slices.SortFunc(alarms, func(x, y keyAlarm) int { return cmp.Compare(x.id, y.id) })
	return alarms, nil
}

// signersOf are the signing keys of a member's nodes that are not out.
func signersOf(m *pb.Member) map[keyOwner]pin {
	all := map[keyOwner]pin{}
	for _, node := range m.GetNodes() {
		if key := signerOf(m, node.GetNumber()); key != nil {
			all[keyOwner{member: m.GetId(), node: node.GetNumber()}] = signingPin(key)
		}
	}
	return all
}

func signingPin(key ed25519.PublicKey) pin {
	return pin{fingerprint: seal.Fingerprint(key), signer: seal.KeyID(key)}
}

// confirmSiblings takes the further nodes of the own member as they are in the
// directory now.
func (n *Node) confirmSiblings(ctx context.Context, own *pb.Member) (*pb.ConfirmKeyResponse, error) {
	nodes, resp := signersOf(own), new(pb.ConfirmKeyResponse)
	delete(nodes, keyOwner{member: own.GetId(), node: n.id.number})
	if len(nodes) == 0 {
		return nil, rpc.Refuse(codes.NotFound, "KEY_NOT_FOUND", "member",
			"自組織のノードはこの端末だけです。確かめる鍵はありません。", "This is the only node of our own. There is no key to confirm.")
	}
	for _, p := range nodes {
		resp.Fingerprints = append(resp.Fingerprints, p.fingerprint)
	}
	slices.Sort(resp.Fingerprints)
	return resp, errors.Join(n.store.setPins(ctx, nodes), n.store.dropKeyAlarms(ctx, siblingAlarm))
}

// alarmTexts are the alarms as the status shows them, in both languages.
func alarmTexts(alarms []keyAlarm) (texts []string) {
	for _, a := range alarms {
		ja, en := a.japanese, a.english
		if !a.present {
			at := a.last.Format(time.RFC3339)
			ja, en = fmt.Sprintf("(%s まで) %s", at, ja), fmt.Sprintf("(until %s) %s", at, en)
		}
		texts = append(texts, ja+" / "+en)
	}
	return texts
}

// holderKey is a key to which a content key is wrapped.
type holderKey struct {
	holder seal.Holder
	key    *seal.PublicKey
}

// keybook is what this node knows of the keys of all: the directory, and the
// keys as they were first seen.
type keybook struct {
	members []*pb.Member
	pins    map[keyOwner]pin
	own     string // nobody compares the keys of the own member by telephone
}

func (n *Node) openKeybook(ctx context.Context) (*keybook, error) {
	n.pinned.RLock() // directory and pins as they belong together
	defer n.pinned.RUnlock()
	members, _, err := n.store.directory(ctx)
	if err != nil {
		return nil, err
	}
	pins, err := n.store.pins(ctx)
	return &keybook{members: members, pins: pins, own: n.id.member}, err
}

// standing is what this node knows of a key.
type standing int

const (
	trusted standing = iota // as it was first seen, or confirmed since
	further                 // by another node of a member or person that is known
	changed                 // in the place of another key
)

func (b *keybook) standingOf(o keyOwner, k listedKey) standing {
	p, pinned := b.pins[o]
	switch {
	case o.member == b.own, pinned && p.fingerprint == k.key.Fingerprint():
		return trusted
	case pinned:
		return changed
	case knownOwner(b.pins, o):
		return further
	}
	return trusted // seen for the first time
}

// holdersOf are the keys of those who may open a copy: for TLP:RED of its
// persons, else of the nodes of the member. Nobody to seal to, and a key that is
// not the one that was seen before, are violations. A further node of a member
// is left out until somebody has confirmed its key: the member reads the report
// at the node that is known.
func (b *keybook) holdersOf(c *pb.Copy, now time.Time) (holders []holderKey, bad []rpc.Violation) {
	persons := c.GetPersons()
	if len(persons) == 0 {
		persons = []string{""}
	}
	listed := keysOf(memberOf(b.members, c.GetMember()))
	for _, person := range persons {
		who := c.GetMember()
		if person != "" {
			who += "/" + person
		}
		var good []holderKey
		var others, replaced []listedKey
		for owner, k := range listed {
			if owner.person != person || !now.Before(k.entry.GetExpireTime().AsTime()) {
				continue
			}
			switch b.standingOf(owner, k) {
			case changed:
				replaced = append(replaced, k)
			case further:
				others = append(others, k)
			default:
				h := seal.Holder{Member: owner.member, Person: owner.person}
				if person == "" {
					h.Node = owner.node
				}
				good = append(good, holderKey{holder: h, key: k.key})
			}
		}
		if person != "" || len(good) == 0 {
			replaced = append(replaced, others...)
		}
		for _, k := range replaced {
			bad = append(bad, keyChanged(who, k))
		}
		if len(good)+len(replaced) == 0 {
			bad = append(bad, hasNoKey(who, person != ""))
		}
		holders = append(holders, good...)
	}
	slices.SortFunc(holders, func(x, y holderKey) int {
		return cmp.Or(cmp.Compare(x.holder.Person, y.holder.Person), cmp.Compare(x.holder.Node, y.holder.Node), cmp.Compare(x.key.ID(), y.key.ID()))
	})
	return holders, bad
}

func keyChanged(who string, k listedKey) rpc.Violation {
	return rpc.Violation{Field: "recipients", Reason: "KEY_CHANGED",
		Japanese: fmt.Sprintf("%s の鍵が前回と変わりました。新しい指紋: %s。相手に電話で指紋を確かめ、一致したら minato members --confirm-key %s を実行して送り直してください。",
			who, k.key.Fingerprint(), who),
		English: fmt.Sprintf("The key of %s is not the one seen before. Its fingerprint now: %s. Compare it by telephone; when it agrees, type: minato members --confirm-key %s and send again.",
			who, k.key.Fingerprint(), who)}
}

func hasNoKey(who string, person bool) rpc.Violation {
	if person {
		return rpc.Violation{Field: "recipients", Reason: "RECIPIENT_HAS_NO_KEY",
			Japanese: fmt.Sprintf("%s の鍵がまだありません。相手に鍵の登録 (minato node person) を頼んでください。急ぐときは電話で連絡してください。", who),
			English:  fmt.Sprintf("%s has published no key yet. Ask them to set one (minato node person). If it is urgent, telephone.", who)}
	}
	return rpc.Violation{Field: "recipients", Reason: "RECIPIENT_HAS_NO_KEY",
		Japanese: fmt.Sprintf("%s のノードの鍵がまだありません。相手のノードが一度ハブに接続すると登録されます。急ぐときは電話で連絡してください。", who),
		English:  fmt.Sprintf("The node of %s has published no key yet. It does so when it is online next. If it is urgent, telephone.", who)}
}

// unconfirmed are the keys of further nodes to which nothing is sealed yet, as
// the status shows them.
func (b *keybook) unconfirmed() (texts []string) {
	for _, m := range b.members {
		for owner, k := range keysOf(m) {
			if owner.person == "" && b.standingOf(owner, k) == further {
				texts = append(texts, fmt.Sprintf("%s のノード %d の鍵は未確認のため、封をした報告をまだ届けません。電話で指紋 %s を確かめ、minato members --confirm-key %s を実行してください。 / The key of node %d of %s has not been confirmed; nothing is sealed to it. Compare the fingerprint %s by telephone and type: minato members --confirm-key %s",
					m.GetId(), owner.node, k.key.Fingerprint(), m.GetId(), owner.node, m.GetId(), k.key.Fingerprint(), m.GetId()))
			}
		}
	}
	slices.Sort(texts)
	return texts
}

// ConfirmKey takes the keys of a member, or of one of its persons, as they are
// in the directory now; of the own member its further nodes.
func (n *Node) ConfirmKey(ctx context.Context, req *pb.ConfirmKeyRequest) (*pb.ConfirmKeyResponse, error) {
	if err := n.fetchDirectory(ctx); err != nil {
		n.log.InfoContext(ctx, "directory not refreshed", "err", err)
	}
	members, _, err := n.store.directory(ctx)
	if err != nil {
		return nil, err
	}
	if req.GetMember() == n.id.member && req.GetPerson() == "" {
		return n.confirmSiblings(ctx, memberOf(members, n.id.member))
	}
	confirmed := map[keyOwner]pin{}
	resp := new(pb.ConfirmKeyResponse)
	for owner, k := range keysOf(memberOf(members, req.GetMember())) {
		if owner.person == req.GetPerson() {
			confirmed[owner] = pin{fingerprint: k.key.Fingerprint(), signer: k.signer}
			resp.Fingerprints = append(resp.Fingerprints, k.key.Fingerprint())
		}
	}
	if len(confirmed) == 0 {
		return nil, rpc.Refuse(codes.NotFound, "KEY_NOT_FOUND", "member",
			"その会員または担当者の鍵は名簿にありません。minato members で確かめてください。",
			"The directory has no key of this member or person. See: minato members")
	}
	slices.Sort(resp.Fingerprints)
	return resp, n.store.setPins(ctx, confirmed)
}

// SetPersonKey publishes a person's key. The private key, where it is given, is
// on disk before anybody can seal to it.
func (n *Node) SetPersonKey(ctx context.Context, req *pb.SetPersonKeyRequest) (*pb.SetPersonKeyResponse, error) {
	profile, _, err := n.store.profile(ctx)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(profile.GetPersons(), func(p *pb.Person) bool { return p.GetId() == req.GetPerson() }) {
		return nil, rpc.Refuse(codes.InvalidArgument, "PERSON_UNKNOWN", "person",
			fmt.Sprintf("担当者 %s は登録されていません。先に minato node person で登録してください。", shown(req.GetPerson())),
			fmt.Sprintf("Person %s is not registered. Register the person first: minato node person", shown(req.GetPerson())))
	}
	badKey := func(err error) error {
		return errors.Join(rpc.Refuse(codes.InvalidArgument, "KEY_INVALID", "public_key",
			"鍵が正しくありません。minato node person で作り直してください。",
			"The key is not valid. Make it again with: minato node person"), err)
	}
	public, err := seal.NewPublicKey(req.GetSuite(), req.GetPublicKey())
	if err != nil {
		return nil, badKey(err)
	}
	if len(req.GetPrivateKey()) > 0 {
		private, err := seal.NewPrivateKey(req.GetSuite(), req.GetPrivateKey())
		if err != nil {
			return nil, badKey(err)
		}
		if !bytes.Equal(private.Public().Bytes(), req.GetPublicKey()) {
			return nil, badKey(errors.New("the two keys are no pair"))
		}
		if err := n.keys.setPerson(req.GetPerson(), private); err != nil {
			return nil, err
		}
	}
	own, err := n.signEntry(ctx, req.GetPerson(), public, time.Now())
	if err != nil {
		return nil, err
	}
	env := new(pb.Envelope)
	if err := proto.Unmarshal(own.envelope, env); err != nil {
		return nil, err
	}
	if err := n.publishKey(ctx, env); err != nil {
		if refusal, ok := final(err); ok {
			return nil, refusal
		}
		n.log.InfoContext(ctx, "key of a person waits for the hub", "err", err) // tendKeys publishes it
	}
	return &pb.SetPersonKeyResponse{Fingerprint: public.Fingerprint()}, nil
}
