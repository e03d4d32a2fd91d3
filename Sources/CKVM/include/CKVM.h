#pragma once

/*
 * What Swift needs of KVM's interface (Linux, Documentation/virt/kvm/api.rst) and cannot have from
 * <linux/kvm.h> alone. The structures and plain constants of that header come through as they are.
 *
 * All functions return what the ioctl returns, or -errno.
 */

#include <linux/kvm.h>
#include <stdint.h>

/* Requests are macros that compute, which Swift does not import. */
extern const unsigned long ckvm_get_api_version;
extern const unsigned long ckvm_check_extension;
extern const unsigned long ckvm_create_vm;
extern const unsigned long ckvm_get_vcpu_mmap_size;
extern const unsigned long ckvm_set_tss_addr;
extern const unsigned long ckvm_set_user_memory_region;
extern const unsigned long ckvm_create_vcpu;
extern const unsigned long ckvm_run_vcpu;
extern const unsigned long ckvm_get_regs;
extern const unsigned long ckvm_set_regs;
extern const unsigned long ckvm_get_sregs;
extern const unsigned long ckvm_set_sregs;
extern const unsigned long ckvm_get_tsc_khz;

/* memfd_create, which glibc declares only with _GNU_SOURCE: a file in memory, or -1 and errno. */
int ckvm_memory_file(void);

/* ioctl is variadic, which Swift cannot call. `argument` is a number or a pointer. */
int ckvm_ioctl(int descriptor, unsigned long request, uintptr_t argument);

/*
 * Makes every access of the VM's vCPUs to MSRs 0x40000000 to 0x400000ff, which are Hyper-V's, end
 * KVM_RUN with KVM_EXIT_X86_RDMSR or KVM_EXIT_X86_WRMSR. In C because the filter's sixteen ranges
 * are a tuple in Swift.
 */
int ckvm_exit_on_hyperv_msrs(int vm);

/* Reads one of a vCPU's MSRs. In C because struct kvm_msrs ends in an array without a length. */
int ckvm_get_msr(int vcpu, uint32_t index, uint64_t *value);

/*
 * What KVM adds to the host's TSC for a vCPU. Setting it is exact: KVM takes a write of the TSC's
 * own MSR for an attempt to synchronize when it is within a second of what it expects.
 */
int ckvm_get_tsc_offset(int vcpu, uint64_t *offset);
int ckvm_set_tsc_offset(int vcpu, uint64_t offset);
