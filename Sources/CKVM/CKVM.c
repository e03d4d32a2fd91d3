#define _GNU_SOURCE
#include "CKVM.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

const unsigned long ckvm_get_api_version = KVM_GET_API_VERSION;
const unsigned long ckvm_check_extension = KVM_CHECK_EXTENSION;
const unsigned long ckvm_create_vm = KVM_CREATE_VM;
const unsigned long ckvm_get_vcpu_mmap_size = KVM_GET_VCPU_MMAP_SIZE;
const unsigned long ckvm_set_tss_addr = KVM_SET_TSS_ADDR;
const unsigned long ckvm_set_user_memory_region = KVM_SET_USER_MEMORY_REGION;
const unsigned long ckvm_create_vcpu = KVM_CREATE_VCPU;
const unsigned long ckvm_run_vcpu = KVM_RUN;
const unsigned long ckvm_get_regs = KVM_GET_REGS;
const unsigned long ckvm_set_regs = KVM_SET_REGS;
const unsigned long ckvm_get_sregs = KVM_GET_SREGS;
const unsigned long ckvm_set_sregs = KVM_SET_SREGS;
const unsigned long ckvm_get_tsc_khz = KVM_GET_TSC_KHZ;

int ckvm_ioctl(int descriptor, unsigned long request, uintptr_t argument) {
  int result = ioctl(descriptor, request, argument);
  return result < 0 ? -errno : result;
}

int ckvm_exit_on_hyperv_msrs(int vm) {
  /* Accesses that the filter denies, and those that this KVM does not know, go to user space. */
  struct kvm_enable_cap capability = {
      .cap = KVM_CAP_X86_USER_SPACE_MSR,
      .args = {KVM_MSR_EXIT_REASON_FILTER | KVM_MSR_EXIT_REASON_UNKNOWN},
  };
  int result = ckvm_ioctl(vm, KVM_ENABLE_CAP, (uintptr_t)&capability);
  if (result < 0) return result;

  /* One bit for each MSR; 0 denies. */
  uint8_t denied[0x100 / 8] = {0};
  struct kvm_msr_filter filter = {
      .flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
      .ranges = {{
          .flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE,
          .nmsrs = 0x100,
          .base = 0x40000000,
          .bitmap = denied,
      }},
  };
  return ckvm_ioctl(vm, KVM_X86_SET_MSR_FILTER, (uintptr_t)&filter);
}

int ckvm_get_msr(int vcpu, uint32_t index, uint64_t *value) {
  struct {
    struct kvm_msrs header;
    struct kvm_msr_entry entry;
  } list;
  memset(&list, 0, sizeof list);
  list.header.nmsrs = 1;
  list.entry.index = index;
  int result = ckvm_ioctl(vcpu, KVM_GET_MSRS, (uintptr_t)&list);
  if (result < 0) return result;
  if (result != 1) return -ENXIO; /* the number of MSRs read */
  *value = list.entry.data;
  return 0;
}

static struct kvm_device_attr tsc_offset_attribute(uint64_t *offset) {
  struct kvm_device_attr attribute = {
      .group = KVM_VCPU_TSC_CTRL,
      .attr = KVM_VCPU_TSC_OFFSET,
      .addr = (uintptr_t)offset,
  };
  return attribute;
}

int ckvm_get_tsc_offset(int vcpu, uint64_t *offset) {
  struct kvm_device_attr attribute = tsc_offset_attribute(offset);
  return ckvm_ioctl(vcpu, KVM_GET_DEVICE_ATTR, (uintptr_t)&attribute);
}

int ckvm_set_tsc_offset(int vcpu, uint64_t offset) {
  struct kvm_device_attr attribute = tsc_offset_attribute(&offset);
  return ckvm_ioctl(vcpu, KVM_SET_DEVICE_ATTR, (uintptr_t)&attribute);
}

int ckvm_memory_file(void) { return memfd_create("kvm-overlay-guest", MFD_CLOEXEC); }
