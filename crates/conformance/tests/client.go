// A client written with client-go, as every Kubernetes controller is: typed calls in protobuf, an informer that follows,
// optimistic locking, a patch, a field selector, a leader's Lease.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/util/retry"
)

var ctx, cancel = context.WithTimeout(context.Background(), 100*time.Second)

func must(err error, what string) {
	if err != nil {
		log.Fatalf("%s: %v", what, err)
	}
}

func hold(holds bool, what string, got interface{}) {
	if !holds {
		log.Fatalf("%s: %v", what, got)
	}
}

func main() {
	defer cancel()
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	must(err, "kubeconfig")
	config.QPS, config.Burst = 200, 200
	for _, form := range []string{"application/vnd.kubernetes.protobuf", "application/json"} {
		config.ContentType = form
		client := kubernetes.NewForConfigOrDie(config)
		space, err := client.CoreV1().Namespaces().Create(ctx, &core.Namespace{ObjectMeta: meta.ObjectMeta{GenerateName: "go-"}}, meta.CreateOptions{})
		must(err, "create a namespace")
		informer(client, space.Name)
		writes(client, space.Name)
		election(client, space.Name)
		must(client.CoreV1().Namespaces().Delete(ctx, space.Name, meta.DeleteOptions{}), "delete the namespace")
	}
	fmt.Println("all held")
}

// A shared informer sees what is there, what comes, what changes and what goes, in order.
func informer(client kubernetes.Interface, space string) {
	maps := client.CoreV1().ConfigMaps(space)
	own := map[string]string{"own": "yes"}
	make := func(name string) {
		object := &core.ConfigMap{ObjectMeta: meta.ObjectMeta{Name: name, Labels: own}, Data: map[string]string{"v": "1"}}
		_, err := maps.Create(ctx, object, meta.CreateOptions{})
		must(err, "create "+name)
	}
	make("before")
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(space),
		informers.WithTweakListOptions(func(options *meta.ListOptions) { options.LabelSelector = "own=yes" }))
	seen := newEvents()
	shared := factory.Core().V1().ConfigMaps()
	shared.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o interface{}) { seen.say("add " + o.(*core.ConfigMap).Name) },
		UpdateFunc: func(_, o interface{}) { seen.say("update " + o.(*core.ConfigMap).Data["v"]) },
		DeleteFunc: func(o interface{}) { seen.say("delete") },
	})
	stop := newStop()
	defer close(stop)
	factory.Start(stop)
	hold(cache.WaitForCacheSync(stop, shared.Informer().HasSynced), "the cache is not filled", "")
	seen.expect("add before")
	make("after")
	seen.expect("add after")
	_, err := maps.Patch(ctx, "after", types.StrategicMergePatchType, []byte(`{"data":{"v":"2"}}`), meta.PatchOptions{})
	must(err, "patch")
	seen.expect("update 2")
	must(maps.Delete(ctx, "after", meta.DeleteOptions{}), "delete")
	seen.expect("delete")
	cached, err := shared.Lister().ConfigMaps(space).List(labels.Everything())
	must(err, "list the cache")
	hold(len(cached) == 1 && cached[0].Name == "before", "the cache holds", cached)
}

type events chan string

func newEvents() events { return make(events, 100) }

func newStop() chan struct{} { return make(chan struct{}) }

func (seen events) say(text string) { seen <- text }

func (seen events) expect(text string) {
	select {
	case got := <-seen:
		hold(got == text, "not "+text, got)
	case <-ctx.Done():
		log.Fatalf("no event %q", text)
	}
}

// Conflicts, retries, typed errors, subresources, pages.
func writes(client kubernetes.Interface, space string) {
	sets := client.AppsV1().StatefulSets(space)
	none := int32(0)
	labelled := map[string]string{"app": "s"}
	template := core.PodTemplateSpec{ObjectMeta: meta.ObjectMeta{Labels: labelled},
		Spec: core.PodSpec{Containers: []core.Container{{Name: "c", Image: "example.com/none"}}}}
	set := &apps.StatefulSet{ObjectMeta: meta.ObjectMeta{Name: "s"}, Spec: apps.StatefulSetSpec{Replicas: &none,
		ServiceName: "s", Selector: &meta.LabelSelector{MatchLabels: labelled}, Template: template}}
	made, err := sets.Create(ctx, set, meta.CreateOptions{})
	must(err, "create a StatefulSet")
	hold(made.Spec.PodManagementPolicy == apps.OrderedReadyPodManagement, "no default", made.Spec)
	_, err = sets.Create(ctx, set, meta.CreateOptions{})
	hold(errors.IsAlreadyExists(err), "created twice", err)
	stale := made.DeepCopy()
	stale.ResourceVersion = "1"
	_, err = sets.Update(ctx, stale, meta.UpdateOptions{})
	hold(errors.IsConflict(err), "a stale update", err)
	must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		now, err := sets.Get(ctx, "s", meta.GetOptions{})
		must(err, "get")
		now.Spec.Template.Spec.Containers[0].Image = "example.com/other"
		_, err = sets.Update(ctx, now, meta.UpdateOptions{})
		return err
	}), "update")
	scale, err := sets.GetScale(ctx, "s", meta.GetOptions{})
	must(err, "get the scale")
	hold(scale.Status.Selector == "app=s", "the scale's selector", scale.Status)
	renamed := made.DeepCopy()
	renamed.ResourceVersion, renamed.Spec.ServiceName = "", "other"
	_, err = sets.Update(ctx, renamed, meta.UpdateOptions{})
	hold(errors.IsInvalid(err), "what cannot change changes", err)
	_, err = sets.Get(ctx, "absent", meta.GetOptions{})
	hold(errors.IsNotFound(err), "what is absent is found", err)
	page, err := client.CoreV1().Namespaces().List(ctx, meta.ListOptions{Limit: 1})
	must(err, "list a page")
	hold(len(page.Items) == 1 && page.Continue != "", "the page", page.ListMeta)
	_, err = client.CoreV1().Namespaces().List(ctx, meta.ListOptions{Limit: 1, Continue: page.Continue})
	must(err, "list the next page")
	background := meta.DeletePropagationBackground
	must(sets.Delete(ctx, "s", meta.DeleteOptions{PropagationPolicy: &background, Preconditions: &meta.Preconditions{UID: &made.UID}}), "delete")
}

// client-go's election makes a leader of the only candidate.
func election(client kubernetes.Interface, space string) {
	lock := &resourcelock.LeaseLock{LeaseMeta: meta.ObjectMeta{Name: "leader", Namespace: space},
		Client: client.CoordinationV1(), LockConfig: resourcelock.ResourceLockConfig{Identity: "gopher"}}
	term, resign := context.WithCancel(ctx)
	leaderelection.RunOrDie(term, leaderelection.LeaderElectionConfig{Lock: lock,
		LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
		Callbacks: leaderelection.LeaderCallbacks{OnStartedLeading: func(context.Context) { resign() }, OnStoppedLeading: func() {}}})
	lease, err := client.CoordinationV1().Leases(space).Get(ctx, "leader", meta.GetOptions{})
	must(err, "get the Lease")
	hold(*lease.Spec.HolderIdentity == "gopher", "the Lease is held by", *lease.Spec.HolderIdentity)
}
