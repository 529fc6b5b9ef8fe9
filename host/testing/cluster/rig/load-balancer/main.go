// Command load-balancer gives an address to every Service of type LoadBalancer, as a cloud's controller does. kube-proxy
// serves the address as soon as it stands in the Service's status.
//
//	load-balancer KUBECONFIG POOL
package main

import (
	"context"
	"fmt"
	"log"
	"net/netip"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: load-balancer KUBECONFIG POOL")
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func run(kubeconfig, pool string) error {
	prefix, err := netip.ParsePrefix(pool)
	if err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.UserAgent = "load-balancer"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	// One at a time, and the reasons to look again come from the informer: nothing is queued.
	changed := make(chan struct{}, 1)
	wake := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	services := informers.NewSharedInformerFactory(client, 0).Core().V1().Services().Informer()
	_, err = services.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { wake() },
		UpdateFunc: func(_, _ any) { wake() },
		DeleteFunc: func(any) { wake() },
	})
	if err != nil {
		return err
	}
	go services.Run(context.Background().Done())
	// Before the list is complete an address that is in use would look free.
	if !cache.WaitForCacheSync(context.Background().Done(), services.HasSynced) {
		return fmt.Errorf("the list of Services did not arrive")
	}
	given := map[netip.Addr]*corev1.Service{}
	for range changed {
		if err := assign(client, prefix, services.GetStore().List(), given); err != nil {
			log.Print(err)
			time.AfterFunc(time.Second, wake)
		}
	}
	return nil
}

// assign writes an address to each Service that wants one. `given` are those that the informer may not have seen yet.
func assign(client kubernetes.Interface, pool netip.Prefix, services []any, given map[netip.Addr]*corev1.Service) error {
	taken := map[netip.Addr]bool{}
	waiting := []*corev1.Service{}
	seen := map[string]bool{}
	for _, object := range services {
		service := object.(*corev1.Service)
		seen[string(service.UID)] = true
		ingress := service.Status.LoadBalancer.Ingress
		if len(ingress) > 0 {
			if address, err := netip.ParseAddr(ingress[0].IP); err == nil {
				taken[address] = true
			}
		} else if service.Spec.Type == corev1.ServiceTypeLoadBalancer && service.Spec.LoadBalancerClass == nil {
			waiting = append(waiting, service)
		}
	}
	for address, service := range given {
		if seen[string(service.UID)] {
			taken[address] = true
		} else {
			delete(given, address)
		}
	}
	for _, service := range waiting {
		address, err := choose(service, pool, taken, given)
		if err != nil {
			return err
		}
		if err := write(client, service, address); err != nil {
			return err
		}
		taken[address], given[address] = true, service
	}
	return nil
}

// choose answers the address that was given already, the one that is asked for, or the first that is free.
func choose(
	service *corev1.Service, pool netip.Prefix, taken map[netip.Addr]bool, given map[netip.Addr]*corev1.Service,
) (netip.Addr, error) {
	for address, owner := range given {
		if owner.UID == service.UID {
			return address, nil
		}
	}
	if wanted, err := netip.ParseAddr(service.Spec.LoadBalancerIP); err == nil && pool.Contains(wanted) && !taken[wanted] {
		return wanted, nil
	}
	for address := pool.Addr().Next(); pool.Contains(address); address = address.Next() {
		if !taken[address] {
			return address, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("no free address in %s", pool)
}

func write(client kubernetes.Interface, service *corev1.Service, address netip.Addr) error {
	patch := fmt.Appendf(nil, `{"status":{"loadBalancer":{"ingress":[{"ip":%q}]}}}`, address)
	services := client.CoreV1().Services(service.Namespace)
	_, err := services.Patch(context.Background(), service.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
